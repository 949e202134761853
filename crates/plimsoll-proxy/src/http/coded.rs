//! What is stored, sent in a content coding: the coding is made once, as the body comes, for all who like it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use plimsoll_cache::body::{Body, Piece};
use plimsoll_cache::cache::Cache;
use plimsoll_cache::codings::Coded;
use plimsoll_cache::object::Object;
use plimsoll_http::coding::Coding;
use plimsoll_http::compress::{Choice, Pair};
use plimsoll_http::framing::Length;
use plimsoll_http::method::Method;

use crate::coder::Lent;
use crate::generation::Route;
use crate::http::compress::{Change, Compress};
use crate::http::flow::{self, Fault, Writer};
use crate::http::pace::Toll;
use crate::http::stored::{self, Selected, Sent};
use crate::plane::Plane;
use crate::seen::Seen;

/// How much is compressed at once, while others wait.
const TURN_BYTES: usize = 32 * 1024;

/// An object, and where it is stored.
pub(crate) struct Place<'a> {
    pub(crate) plane: &'a Plane,
    pub(crate) cache: &'a Arc<Cache>,
    pub(crate) key: &'a [u8],
    pub(crate) object: &'a Arc<Object>,
}

/// Decides in which coding an object is sent of which `selected` was chosen, and chooses the bytes anew if it is;
/// what its head says of that, where it may be.
pub(crate) fn choose(
    route: Option<&Route>,
    seen: &Seen<'_>,
    place: &Place<'_>,
    selected: &mut Selected,
) -> Option<Change> {
    let compress = route?.compress.as_ref()?;
    let (object, is_head) = (place.object, seen.head.method == Method::Head);
    let mut choice = compress.choose(&Pair {
        request: (seen.head, seen.bytes),
        response: object.head(),
        length: Length::Exactly(object.body.length().unwrap_or_default()),
        is_head,
    });
    if let Choice::Coded(coding) = choice {
        choice = match selected.status {
            None => recode(selected, (compress, coding), place, is_head),
            Some(304) => choice,
            // A part is one of the plain bytes, which are the same each time.
            Some(_) => Choice::Plain,
        };
    }
    let is_304 = selected.status == Some(304);
    Change::of_stored(choice, object.head(), is_304)
}

/// Has the object sent in a coding, if that can be.
fn recode(
    selected: &mut Selected,
    (compress, coding): (&Compress, Coding),
    place: &Place<'_>,
    is_head: bool,
) -> Choice {
    let whole = place.object.body.codings.whole(coding);
    if let Some(body) = whole {
        let length = body.length().unwrap_or_default();
        selected.length = Length::Exactly(length);
        selected.sent = Sent::Part(0..length);
        selected.body = body;
        return Choice::Coded(coding);
    }
    selected.length = Length::Chunked;
    if is_head {
        return Choice::Coded(coding);
    }
    match body(place, compress, coding) {
        Some(body) => {
            selected.sent = Sent::Chunks;
            selected.body = body;
            Choice::Coded(coding)
        }
        None => {
            selected.length = Length::Exactly(place.object.body.length().unwrap_or_default());
            Choice::Plain
        }
    }
}

/// The body in this coding, which is being made; nothing where there is no room for it.
fn body(place: &Place<'_>, compress: &Compress, coding: Coding) -> Option<Arc<Body>> {
    let plane = place.plane.me.upgrade()?;
    let object = place.object;
    let length = object.body.length()?;
    let begin = || Some(Body::new(None, place.cache.reserve_coded(length)?));
    match object.body.codings.get(coding, begin)? {
        Coded::There(body) => Some(body),
        Coded::Begun(body) => {
            let maker = Maker {
                cache: Arc::clone(place.cache),
                key: place.key.into(),
                object: Arc::clone(object),
                body: Arc::clone(&body),
            };
            let coder = compress.lend(coding, &plane.coders)?;
            tokio::task::spawn_local(maker.run(plane, coder));
            Some(body)
        }
    }
}

/// Makes a coding. Dropped before its end, it is given up, and those who read along get no end.
struct Maker {
    cache: Arc<Cache>,
    key: Box<[u8]>,
    object: Arc<Object>,
    body: Arc<Body>,
}

impl Drop for Maker {
    fn drop(&mut self) {
        if !self.body.is_whole() {
            self.body.cut();
        }
    }
}

impl Maker {
    /// Reads the body as it comes; what it is stored with counts what came of it then.
    async fn run(self, _plane: Rc<Plane>, mut coder: Lent) {
        let from = &self.object.body;
        let mut at = 0;
        loop {
            let mut piece = from.read(at);
            if piece == Piece::Wait {
                // Nothing that has come is held back while nothing comes.
                let Ok(ready) = coder.flush() else { return };
                self.push(&ready);
                piece = from.next(at).await;
            }
            let Piece::Bytes(bytes) = piece else {
                match (piece, coder.encode(&[], true)) {
                    (Piece::End, Ok(last)) => self.push(&last),
                    _ => return,
                }
                break;
            };
            for turn in bytes.chunks(TURN_BYTES) {
                let Ok(ready) = coder.encode(turn, false) else {
                    return;
                };
                self.push(&ready);
                tokio::task::yield_now().await;
            }
            at += bytes.len() as u64;
        }
        if self.body.end() {
            self.cache.recount(&self.key, &self.object.body);
        }
    }

    fn push(&self, data: &[u8]) {
        if !data.is_empty() {
            self.body.push(data);
        }
    }
}

/// Writes a head, and behind it a body whose length nobody knows yet, as it comes.
pub(crate) async fn bring(
    head: &mut Vec<u8>,
    body: &Body,
    (writer, toll): (Writer<'_>, Toll<'_>),
    moved: &Cell<u64>,
) -> Result<(), Fault> {
    let chunked = flow::Coding::Chunked(None);
    let mut at = 0;
    while let Some(mut piece) = stored::take(body, at, writer).await? {
        piece.truncate(toll.piece());
        toll.pay(piece.len()).await;
        writer.write_message(head, &piece, None, chunked).await?;
        head.clear();
        at += piece.len() as u64;
        moved.set(at);
    }
    head.extend_from_slice(b"0\r\n\r\n");
    writer.write(&mut [std::io::IoSlice::new(head)]).await
}
