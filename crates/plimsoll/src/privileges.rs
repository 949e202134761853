//! Giving up what root may do, before anything else is done.

use anyhow::{Context, bail};
use nix::unistd::{Gid, Group, Uid, User};
use plimsoll_config::model::{Config, Source};
use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// The user and the group that `config` names, if it does; or what is wrong with them.
pub(crate) fn find(config: &Config) -> Result<Option<(User, Gid)>, String> {
    let Some(wanted) = &config.user else {
        return Ok(None);
    };
    let why = |error: nix::Error| error.to_string();
    let Some(user) = User::from_name(&wanted.name).map_err(why)? else {
        return Err(format!("there is no user `{}`", wanted.name));
    };
    let Some(name) = &wanted.group else {
        let own = user.gid;
        return Ok(Some((user, own)));
    };
    match Group::from_name(name).map_err(why)? {
        Some(group) => Ok(Some((user, group.gid))),
        None => Err(format!("there is no group `{name}`")),
    }
}

/// Becomes this user, with what `config` needs of root's rights. There is one thread yet, and all others get what it has.
///
/// # Errors
/// This process may not become it.
pub(crate) fn give_up((user, group): &(User, Gid), config: &Config) -> anyhow::Result<()> {
    let own = Uid::from_raw(geteuid().as_raw());
    if !own.is_root() {
        return match own == user.uid {
            true => Ok(()),
            false => bail!("only root can become user `{}`", user.name),
        };
    }
    let become_it = become_user(user, *group, rights(config));
    become_it.with_context(|| format!("cannot become user `{}`", user.name))
}

/// What is left of root's rights.
fn rights(config: &Config) -> CapabilitySet {
    let mut pools = config.pools.iter();
    let is_transparent = pools.any(|pool| matches!(pool.source, Source::Client));
    let transparent = if is_transparent {
        CapabilitySet::NET_ADMIN
    } else {
        CapabilitySet::empty()
    };
    CapabilitySet::NET_BIND_SERVICE | transparent
}

fn become_user(user: &User, group: Gid, rights: CapabilitySet) -> anyhow::Result<()> {
    let name = std::ffi::CString::new(user.name.as_str())?;
    let groups = nix::unistd::getgrouplist(&name, group)?;
    let id = |group: &Gid| rustix::process::Gid::from_raw(group.as_raw());
    let groups: Vec<_> = groups.iter().map(id).collect();
    let (own, group) = (
        rustix::process::Uid::from_raw(user.uid.as_raw()),
        id(&group),
    );
    set_keep_capabilities(true)?;
    set_thread_groups(&groups)?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(own, own, own)?;
    let sets = CapabilitySets {
        effective: rights,
        permitted: rights,
        inheritable: rights,
    };
    set_capabilities(None, sets)?;
    for right in rights.iter() {
        // They are kept by the program that takes over.
        configure_capability_in_ambient_set(right, true)?;
    }
    set_no_new_privs(true)?;
    // What is known of the process in /proc is for the new user; keys stay out of dumps by another limit.
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}
