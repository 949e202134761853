//! A node that uses some of many servers.

use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::get;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;

#[test]
fn a_node_uses_its_subset_and_the_rest_when_that_is_gone() {
    let server = |_| Recorder::start(|_| Answer::ok("ok"));
    let mut servers: Vec<Recorder> = (0..6).map(server).collect();
    let lines: Vec<String> = servers
        .iter()
        .map(|server| format!("server {}", server.address()))
        .collect();
    let text = format!(
        "admin off\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ subset 2 ; {} }}\n",
        lines.join(" ; ")
    );
    let plimsoll = Start::run(&text).start();
    let ask = || (0..20).all(|_| get(plimsoll.address(), "/").status() == 200);
    assert!(ask());
    let used = |servers: &[Recorder]| servers.iter().filter(|s| s.completed() > 0).count();
    assert_eq!(used(&servers), 2);
    servers.retain(|server| server.completed() == 0);
    assert!(ask(), "the rest stands in");
    assert_eq!(used(&servers), 4);
}
