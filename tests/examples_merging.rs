//! `examples/merging.toml` answers what `docs/MERGING.md` says. Needs `python3`; says so where there is none.

mod kit;

use kit::{Node, Process};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_merging_answers_what_its_page_says() {
    if kit::missing("python3") {
        return;
    }
    let port = kit::free_port();
    let (text, url) = (port.to_string(), format!("http://127.0.0.1:{port}/rates/EUR.json"));
    let files = ["-m", "http.server", &text, "--bind", "127.0.0.1", "--directory", "examples/merging"];
    let _files = Process::start("python3", &files, &url).await;
    let mut node = Node::from_file("examples/merging.toml", &[("9101", port)]);
    node.start().await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/MERGING.md")).unwrap();
    let asked = page.split("$ curl -s http://127.0.0.1:8000").skip(1);
    let mut count = 0;
    for (path, expected) in asked.map(|block| block.split_once('\n').unwrap()) {
        let reply = node.get(path).await;
        assert_eq!(reply.text, expected.lines().next().unwrap(), "{path}");
        count += 1;
    }
    assert!(count >= 2, "the page has its blocks");
}
