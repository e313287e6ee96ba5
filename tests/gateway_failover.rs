//! A service that has no instance is stood in for, by the next that has one.

mod gateway_support;

use std::path::Path;

use gateway_support::{OK, body, gateway, get, post, recorder, seen, status};

const ROUTES: &str = r#"
[[routes]]
id = "look"
match = { path = "/look" }
forward = { service = "accounts" }

[[routes]]
id = "both"
match = { path = "/both" }
[routes.merge]
parts = [ { service = "accounts", path = "/part", as = "account" } ]
"#;

fn listing(url: Option<std::net::SocketAddr>) -> String {
    let entry = |address| format!("[[instances]]\nurl = \"http://{address}\"\n");
    url.map_or_else(|| "instances = []".to_owned(), entry)
}

fn looked_for(name: &str, file: &Path, rest: &str) -> String {
    format!("[services.{name}]\nfile = {:?}\nkeep = \"0s\"\n{rest}\n", file.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_a_service_and_its_stand_ins_that_has_an_instance_is_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = ["accounts.toml", "near.toml"].map(|name| directory.path().join(name));
    let write = |file: &Path, text: String| std::fs::write(file, text).expect("writes");
    let ((accounts, by_accounts), (near, by_near), (far, by_far)) =
        (recorder(OK).await, recorder(OK).await, recorder(OK).await);
    for file in &files {
        write(file, listing(None));
    }
    let config = [
        looked_for("accounts", &files[0], "failover = [\"near\", \"far\"]"),
        looked_for("near", &files[1], ""),
        format!("[services.far]\nendpoints = [\"http://{far}\"]\n"),
        ROUTES.to_owned(),
    ];
    let gateway = gateway(&config.concat()).await;

    // Whom the next request reaches, each time after the change of a file was noticed.
    let counts = || [&by_accounts, &by_near, &by_far].map(|by| seen(by).len());
    let reaches = async |wanted: usize| {
        let reached = async {
            loop {
                let before = counts();
                assert_eq!(status(&get(gateway, "/look", &[]).await), "200");
                if counts()[wanted] > before[wanted] {
                    return;
                }
            }
        };
        gateway_support::soon(reached).await;
    };
    reaches(2).await;
    write(&files[1], listing(Some(near)));
    reaches(1).await;
    let merged = get(gateway, "/both", &[]).await;
    assert!(body(&merged).contains("account"), "{merged}");
    assert!(seen(&by_near).last().is_some_and(|request| request.starts_with("GET /part ")), "merging too");
    write(&files[0], listing(Some(accounts)));
    reaches(0).await;
    let before = counts();
    get(gateway, "/look", &[]).await;
    assert_eq!(counts(), [before[0] + 1, before[1], before[2]], "the service itself, as soon as it can");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_has_an_instance_the_service_that_was_meant_is_said_to_be_out_of_reach() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("none.toml");
    std::fs::write(&file, listing(None)).expect("writes");
    let config =
        looked_for("accounts", &file, "failover = \"near\"") + &looked_for("near", &file, "") + ROUTES;
    let answer = get(gateway(&config).await, "/look", &[]).await;
    assert_eq!(status(&answer), "502");
    assert!(answer.contains("\"service\":\"accounts\"") && !answer.contains("near"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_instances_are_all_ill_is_stood_in_for() {
    let ((far, by_far), dead) = (recorder(OK).await, gateway_support::nobody().await);
    let config = format!(
        "[services.accounts]\nendpoints = [\"http://{dead}\"]\nfailover = \"far\"\n\
         health = {{ path = \"/health\", interval = \"50ms\", timeout = \"50ms\", unhealthy = 1 }}\n\
         [services.far]\nendpoints = [\"http://{far}\"]\n{ROUTES}"
    );
    let gateway = gateway(&config).await;
    let reached = async { while status(&get(gateway, "/look", &[]).await) != "200" {} };
    gateway_support::soon(reached).await;
    assert!(!seen(&by_far).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_not_sent_goes_on_to_the_stand_in_and_one_that_may_have_been_does_not() {
    let ((far, by_far), dead) = (recorder(OK).await, gateway_support::nobody().await);
    let (rude, by_rude) = recorder("no answer at all").await;
    let before = |address| {
        format!(
            "[services.accounts]\nendpoints = [\"http://{address}\"]\nfailover = \"far\"\n\
             breaker = {{ requests_min = 1, error_percent = 50 }}\n\
             [services.far]\nendpoints = [\"http://{far}\"]\n\
             [[routes]]\nid = \"p\"\nmatch = {{ path = \"/p\" }}\nforward = {{ service = \"accounts\" }}\n"
        )
    };
    let at_a_dead_one = gateway(&before(dead)).await;
    // The first finds nobody, and those after it an open breaker.
    for count in 1..4 {
        assert_eq!(status(&post(at_a_dead_one, "the body").await), "200");
        assert!(seen(&by_far)[count - 1].ends_with("the body"));
    }
    let at_a_rude_one = gateway(&before(rude)).await;
    assert_eq!(status(&post(at_a_rude_one, "the body").await), "502");
    assert_eq!((seen(&by_rude).len(), seen(&by_far).len()), (1, 3), "it may have acted");
}
