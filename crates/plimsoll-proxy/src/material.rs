//! What rules look into, and what may change while we serve: files, and key sets that are fetched. The
//! control plane reads them, the data plane sees what they held last that could be used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arc_swap::{ArcSwap, ArcSwapOption};
use plimsoll_access::api_key::ApiKeys;
use plimsoll_access::geo::Geo;
use plimsoll_access::password::Passwords;
use plimsoll_access::prefixes::Prefixes;
use plimsoll_access::token::Keys;
use plimsoll_config::model;
use rustls::RootCertStore;

use crate::generation::Generation;
use crate::key_set::{KeySet, Wish};
use crate::page::Page;
use crate::server_tls::{self, Roots};
use crate::tls::certificate;
use crate::tls::clients::{self, Issuers};
use crate::tls::staple::{self, Proof, Staple};
use crate::tls::stapled::Stapled;
use crate::tls::tickets::Key;
use crate::tls::{self, Pair};

/// A file or a fetched set, and what it holds.
#[derive(Debug)]
pub struct Material {
    /// Its path or URL, as written.
    pub path: Box<str>,
    /// The file beside it: with the key, of a certificate; with what was revoked, of issuers.
    pub beside: Option<Box<str>>,
    /// Whether somebody has been asked for it, so that it may not be there yet.
    pub is_awaited: bool,
    /// How often it was put in force.
    pub taken: Arc<AtomicU64>,
    /// How often it could not be used.
    pub refused: Arc<AtomicU64>,
    /// Whether what is in force is what stands in it.
    pub is_current: Arc<AtomicBool>,
    /// What it certifies, if it is no file: a certificate that we issue ourselves.
    pub issued: Option<model::Internal>,
    /// Whether nothing is to start without it, whatever it is.
    is_essential: bool,
    content: Content,
}

/// What it holds. Before it is read, it lets nobody in and keeps nobody out.
#[derive(Clone, Debug)]
enum Content {
    Networks(Arc<ArcSwap<Prefixes>>),
    Passwords(Arc<ArcSwapOption<Passwords>>),
    ApiKeys(Arc<ArcSwap<ApiKeys>>),
    Keys(Arc<ArcSwapOption<Keys>>),
    Geo(Arc<ArcSwapOption<Geo>>),
    Pages(Arc<ArcSwap<Page>>),
    Switch(Arc<AtomicBool>),
    Pair(Pair),
    Issuers(Issuers),
    Staple(Staple),
    TicketKey(Arc<ArcSwapOption<Key>>),
    Roots(Roots),
}

impl Material {
    fn new(path: &str, content: Content) -> Self {
        Self {
            path: path.into(),
            beside: None,
            is_awaited: false,
            taken: Arc::default(),
            refused: Arc::default(),
            is_current: Arc::default(),
            issued: None,
            is_essential: false,
            content,
        }
    }

    /// The same for the next generation: what is in force there is in force here.
    fn again(&self) -> Self {
        Self {
            path: self.path.clone(),
            beside: self.beside.clone(),
            is_awaited: self.is_awaited,
            taken: Arc::clone(&self.taken),
            refused: Arc::clone(&self.refused),
            is_current: Arc::clone(&self.is_current),
            issued: self.issued.clone(),
            is_essential: false,
            content: self.content.clone(),
        }
    }

    /// Tells whether it goes on from `other`, of a generation before.
    pub fn goes_on_from(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.taken, &other.taken)
    }

    /// What it is for.
    pub fn kind(&self) -> &'static str {
        match self.content {
            Content::Networks(_) => "networks",
            Content::Passwords(_) => "passwords",
            Content::ApiKeys(_) => "api-keys",
            Content::Keys(_) => "jwt-keys",
            Content::Geo(_) => "geo",
            Content::Switch(_) => "switch",
            Content::Pages(_) => "page",
            Content::Pair(_) => "certificate",
            Content::Issuers(_) => "client-issuers",
            Content::Staple(_) => "staple",
            Content::TicketKey(_) => "ticket-key",
            Content::Roots(_) => "ca",
        }
    }

    /// Counts a look at it, and whether what stands in it could be used.
    pub fn note(&self, is_good: bool) {
        let count = if is_good { &self.taken } else { &self.refused };
        count.fetch_add(1, Relaxed);
        self.is_current.store(is_good, Relaxed);
    }

    /// Tells whether all that counts is that the file is there.
    pub fn is_switch(&self) -> bool {
        matches!(self.content, Content::Switch(_))
    }

    /// Takes over that the file is there, or not, if that is all that counts.
    pub fn switch(&self, is_there: bool) {
        if let Content::Switch(switch) = &self.content {
            switch.store(is_there, Relaxed);
        }
    }

    /// Until when it is good, in seconds since 1970, if it is a certificate.
    pub fn expires(&self) -> Option<u64> {
        let Content::Pair(pair) = &self.content else {
            return None;
        };
        let pair = pair.load();
        certificate::not_after(pair.as_ref()?.cert.first()?)
    }

    /// Tells whether it is what an issuer said of a certificate, and the time of that is over.
    pub fn is_stale(&self, now: u64) -> bool {
        let Content::Staple(staple) = &self.content else {
            return false;
        };
        staple
            .load()
            .as_ref()
            .is_some_and(|staple| staple.is_over(now))
    }

    /// What happens when it cannot be used at the start; nothing where all depends on it.
    pub fn when_missing(&self) -> Option<&'static str> {
        match self.content {
            _ if self.is_essential => None,
            Content::Pair(_) | Content::Issuers(_) => {
                Some("nobody is served who needs it, until it is put right")
            }
            Content::Staple(_) => Some("the certificate is shown without it"),
            _ => None,
        }
    }

    /// Tells whether nobody but its owner may know what the file holds.
    pub fn is_secret(&self) -> bool {
        match self.content {
            Content::TicketKey(_) => true,
            Content::Pair(_) => self.beside.is_none(),
            _ => false,
        }
    }

    /// Tells whether nobody but its owner may know what the file beside it holds.
    pub fn is_beside_secret(&self) -> bool {
        matches!(self.content, Content::Pair(_))
    }

    /// Takes over what the file holds now, and the one beside it.
    ///
    /// # Errors
    /// What is wrong with it; then what it held before still counts.
    pub fn take(&self, bytes: Vec<u8>, beside: Option<&[u8]>) -> Result<(), String> {
        let text = |bad: plimsoll_access::lines::BadFile| bad.to_string();
        // What truncates a file leaves nothing, which must not let everybody in.
        if bytes.is_empty() && !matches!(self.content, Content::Pages(_) | Content::Switch(_)) {
            return Err("the file is empty: if that is meant, say so in a comment".to_owned());
        }
        match &self.content {
            Content::Networks(place) => {
                place.store(Arc::new(Prefixes::read(&bytes).map_err(text)?))
            }
            Content::Passwords(place) => {
                place.store(Some(Arc::new(Passwords::read(&bytes).map_err(text)?)));
            }
            Content::ApiKeys(place) => place.store(Arc::new(ApiKeys::read(&bytes).map_err(text)?)),
            Content::Keys(place) => place.store(Some(Arc::new(Keys::read(&bytes).map_err(text)?))),
            Content::Geo(place) => place.store(Some(Arc::new(Geo::read(bytes).map_err(text)?))),
            Content::Pages(place) => place.store(Arc::new(Page::read(&bytes)?)),
            Content::Switch(switch) => switch.store(true, Relaxed),
            Content::Pair(pair) => {
                let pem = [&*bytes, b"\n", beside.unwrap_or_default()].concat();
                pair.store(Some(Arc::new(tls::read(&pem)?)));
            }
            Content::Issuers(place) => {
                place.store(Some(Arc::new(clients::read(&bytes, beside)?)));
            }
            Content::Staple(place) => {
                let response = staple::read(bytes).map_err(|refused| refused.to_string())?;
                place.store(Some(Arc::new(response)));
            }
            Content::TicketKey(place) => place.store(Some(Arc::new(Key::read(&bytes)?))),
            Content::Roots(place) => {
                place.store(Some(Arc::new(server_tls::read_roots(&bytes)?)));
            }
        }
        Ok(())
    }
}

/// Those whom the system trusts, for pools that name nobody.
#[derive(Debug)]
pub struct SystemRoots(Roots);

impl SystemRoots {
    /// Takes over who they are.
    pub fn take(&self, roots: RootCertStore) {
        self.0.store(Some(Arc::new(roots)));
    }
}

/// All that the rules of a generation look into; what several of them name is read once.
#[derive(Debug, Default)]
pub(crate) struct Materials {
    /// Where they go on from.
    before: Option<Arc<Generation>>,
    files: Vec<Material>,
    key_sets: Vec<Arc<KeySet>>,
    stapled: Vec<Arc<Stapled>>,
    system_roots: Option<Roots>,
}

/// All of them, for a generation.
pub(crate) struct Gathered {
    pub(crate) files: Vec<Material>,
    pub(crate) key_sets: Vec<Arc<KeySet>>,
    pub(crate) stapled: Vec<Arc<Stapled>>,
    pub(crate) system_roots: Option<SystemRoots>,
}

macro_rules! getter {
    ($(#[doc = $doc:literal])* $name:ident -> $kind:ident($content:ty)) => {
        $(#[doc = $doc])*
        pub(crate) fn $name(&mut self, path: &str) -> $content {
            let is = |material: &Material| match &material.content {
                Content::$kind(content) if &*material.path == path => Some(content.clone()),
                _ => None,
            };
            self.known(is).unwrap_or_else(|| {
                let content = <$content>::default();
                self.files.push(Material::new(path, Content::$kind(content.clone())));
                content
            })
        }
    };
}

impl Materials {
    /// None yet, but what the generation before has.
    pub(crate) fn succeeding(before: Option<&Arc<Generation>>) -> Self {
        Self {
            before: before.map(Arc::clone),
            ..Self::default()
        }
    }

    /// What is asked for, if somebody else has asked for it, or did so in the generation before.
    fn known<T>(&mut self, is: impl Fn(&Material) -> Option<T>) -> Option<T> {
        let known = self.files.iter().find_map(&is);
        known.or_else(|| {
            let mut before = self.before.iter().flat_map(|before| &before.materials);
            let (material, known) = before.find_map(|material| Some((material, is(material)?)))?;
            self.files.push(material.again());
            Some(known)
        })
    }

    getter!(
        /// A list of networks.
        networks -> Networks(Arc<ArcSwap<Prefixes>>)
    );
    getter!(
        /// Users and passwords.
        passwords -> Passwords(Arc<ArcSwapOption<Passwords>>)
    );
    getter!(
        /// Names and keys.
        api_keys -> ApiKeys(Arc<ArcSwap<ApiKeys>>)
    );
    getter!(
        /// Keys of tokens.
        keys -> Keys(Arc<ArcSwapOption<Keys>>)
    );
    getter!(
        /// Countries.
        geo -> Geo(Arc<ArcSwapOption<Geo>>)
    );
    getter!(
        /// A page.
        pages -> Pages(Arc<ArcSwap<Page>>)
    );
    getter!(
        /// A key of tickets.
        ticket_key -> TicketKey(Arc<ArcSwapOption<Key>>)
    );
    getter!(
        /// What an issuer says of a certificate.
        staple -> Staple(Staple)
    );
    getter!(
        /// Whether a file is there.
        switch -> Switch(Arc<AtomicBool>)
    );
    getter!(
        /// Those whose word on servers counts.
        roots -> Roots(Roots)
    );

    /// Those whom the system trusts.
    pub(crate) fn system_roots(&mut self) -> Roots {
        Arc::clone(self.system_roots.get_or_insert_default())
    }

    /// A certificate with its key, and what its issuer says of it.
    pub(crate) fn proof(&mut self, files: &model::KeyPair) -> Proof {
        let pair = self.find_pair(files, false);
        let is_it = |known: &&Arc<Stapled>| known.is_of(&pair, &files.staple);
        if let Some(known) = self.stapled.iter().find(is_it) {
            return known.proof();
        }
        // A file beside it is one of its own, and asked for anew.
        let is_file = matches!(files.staple, model::Staple::File(_));
        let before = self.before.iter().flat_map(|before| &before.stapled);
        if let Some(known) = before.filter(|_| !is_file).find(is_it) {
            let proof = known.proof();
            self.stapled.push(Arc::clone(known));
            return proof;
        }
        let staple = match &files.staple {
            model::Staple::Responder => Some(Staple::default()),
            model::Staple::File(file) => Some(self.staple(file)),
            model::Staple::Off => None,
        };
        let told = Content::Staple(staple.clone().unwrap_or_default());
        let material = Material::new(&files.certificate, told);
        let stapled = Stapled::new(material, pair, staple, files.staple.clone());
        let proof = stapled.proof();
        self.stapled.push(Arc::new(stapled));
        proof
    }

    /// A certificate and its key, without which nothing is to start.
    pub(crate) fn pair(&mut self, files: &model::KeyPair) -> Pair {
        self.find_pair(files, true)
    }

    fn find_pair(&mut self, files: &model::KeyPair, is_essential: bool) -> Pair {
        // Both may stand in one file.
        let beside = (files.key != files.certificate).then(|| files.key.clone());
        let is = |material: &Material| match &material.content {
            Content::Pair(pair)
                if *material.path == *files.certificate && material.beside == beside =>
            {
                Some(Arc::clone(pair))
            }
            _ => None,
        };
        if let Some(known) = self.known(is) {
            let mut all = self.files.iter_mut();
            if let Some(material) = all.find(|material| is(material).is_some()) {
                material.is_essential |= is_essential;
            }
            return known;
        }
        let pair = Pair::default();
        self.files.push(Material {
            beside,
            is_awaited: !files.names.is_empty(),
            is_essential,
            ..Material::new(&files.certificate, Content::Pair(Arc::clone(&pair)))
        });
        pair
    }

    /// A certificate that we issue ourselves, with its key.
    pub(crate) fn issued(&mut self, wanted: &model::Internal) -> Pair {
        let is = |material: &Material| match &material.content {
            Content::Pair(pair) if material.issued.as_ref() == Some(wanted) => {
                Some(Arc::clone(pair))
            }
            _ => None,
        };
        self.known(is).unwrap_or_else(|| {
            let pair = Pair::default();
            let path = format!("internal:{}", wanted.names.join(","));
            self.files.push(Material {
                issued: Some(wanted.clone()),
                ..Material::new(&path, Content::Pair(Arc::clone(&pair)))
            });
            pair
        })
    }

    /// Who may issue certificates of clients, and what they revoked.
    pub(crate) fn issuers(&mut self, files: &model::ClientCertificate) -> Issuers {
        let is = |material: &Material| match &material.content {
            Content::Issuers(known) if *material.path == *files.ca => {
                (material.beside == files.crl).then(|| Arc::clone(known))
            }
            _ => None,
        };
        self.known(is).unwrap_or_else(|| {
            let issuers = Issuers::default();
            self.files.push(Material {
                beside: files.crl.clone(),
                ..Material::new(&files.ca, Content::Issuers(Arc::clone(&issuers)))
            });
            issuers
        })
    }

    /// Keys of tokens that are fetched, and the wish for them before their time.
    pub(crate) fn fetched_keys(
        &mut self,
        source: &model::KeySet,
    ) -> (Arc<ArcSwapOption<Keys>>, Arc<Wish>) {
        let is = |set: &Arc<KeySet>| match &set.material.content {
            Content::Keys(keys) if set.source == *source => {
                Some((Arc::clone(keys), Arc::clone(&set.wish)))
            }
            _ => None,
        };
        if let Some(known) = self.key_sets.iter().find_map(is) {
            return known;
        }
        let mut before = self.before.iter().flat_map(|before| &before.key_sets);
        if let Some((set, known)) = before.find_map(|set| Some((set, is(set)?))) {
            self.key_sets.push(Arc::clone(set));
            return known;
        }
        let (keys, wish) = <(Arc<ArcSwapOption<Keys>>, Arc<Wish>)>::default();
        self.key_sets.push(Arc::new(KeySet {
            source: source.clone(),
            material: Material::new(&source.url.text, Content::Keys(Arc::clone(&keys))),
            wish: Arc::clone(&wish),
        }));
        (keys, wish)
    }

    /// All that was asked for.
    pub(crate) fn finish(self) -> Gathered {
        Gathered {
            files: self.files,
            key_sets: self.key_sets,
            stapled: self.stapled,
            system_roots: self.system_roots.map(SystemRoots),
        }
    }
}
