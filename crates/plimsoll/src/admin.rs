//! Opening the admin listeners.

use std::io::ErrorKind;

use anyhow::Context;
use plimsoll_admin::guard::Guard;
use plimsoll_admin::listen::{self, Listener};
use plimsoll_config::model::{Admin, AdminAddress};
use plimsoll_control::secrets;
use plimsoll_control::upgrade::Inherited;

/// The fewest bytes of a token: fewer are guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// Opens what `admin` says. A one-liner has no say in it, and goes without what others have.
pub(crate) async fn open(
    admin: &Admin,
    is_one_liner: bool,
    inherited: &Inherited,
) -> anyhow::Result<Vec<(AdminAddress, Listener)>> {
    let mut opened = Vec::new();
    let Some(places) = &admin.listen else {
        let place = AdminAddress::Ip(listen::ADDRESS);
        match listen(&place, inherited).await {
            Ok(listener) => opened.push((place, listener)),
            // Nobody asked for it here; the traffic matters more.
            Err(error) if is_one_liner => tracing::warn!("no dashboard and no metrics: {error:#}"),
            Err(error) => return Err(error),
        }
        opened.extend(usual_socket(inherited));
        return Ok(opened);
    };
    for place in places {
        opened.push((place.clone(), listen(place, inherited).await?));
    }
    Ok(opened)
}

async fn listen(place: &AdminAddress, inherited: &Inherited) -> anyhow::Result<Listener> {
    if let Some(listener) = Listener::inherited(place, inherited)? {
        return Ok(listener);
    }
    let listener = match place {
        AdminAddress::Ip(address) => listen::on_address(*address).await,
        AdminAddress::Socket(path) => listen::on_socket(path),
    };
    listener.with_context(|| format!("cannot listen on admin address {place}"))
}

/// The first of the usual sockets that can be made.
fn usual_socket(inherited: &Inherited) -> Option<(AdminAddress, Listener)> {
    for path in listen::sockets() {
        let place = AdminAddress::Socket(path.clone());
        if let Ok(Some(listener)) = Listener::inherited(&place, inherited) {
            return Some((place, listener));
        }
        match listen::on_socket(&path) {
            Ok(listener) => return Some((AdminAddress::Socket(path), listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                tracing::info!(path = %path.display(), "another Plimsoll has the admin socket");
                return None;
            }
            Err(error) => tracing::debug!(path = %path.display(), %error, "no admin socket here"),
        }
    }
    None
}

/// Who may change things; or what is wrong with the token.
pub(crate) fn guard(admin: &Admin) -> Result<Guard, String> {
    let Some(file) = &admin.token else {
        return Ok(Guard::new(None));
    };
    let token = secrets::read(file).map_err(|why| format!("cannot use `{file}`: {why}"))?;
    let token = token.trim_ascii();
    let is_sound = token.len() >= TOKEN_BYTES_MIN && token.iter().all(u8::is_ascii_graphic);
    match is_sound {
        true => Ok(Guard::new(Some(token))),
        false => Err(format!(
            "cannot use `{file}`: a token is {TOKEN_BYTES_MIN} or more letters, digits and signs, such as \
             `openssl rand -hex 32` prints"
        )),
    }
}
