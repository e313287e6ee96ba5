//! A watched file: a list of instances that somebody else writes, such as a template or a `ConfigMap`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use tokio::time::sleep;

use super::admit::{Candidate, Found, Refused};
use super::follow::Feed;
use super::trouble::{ANSWER_BYTES_MAX, Trouble};
use crate::watched::Watched;

/// How often to look whether the file is still there, or there again: that it is gone is nothing new to who watches it.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a file holds: TOML with `[[instances]]`, or the same as JSON, or a JSON list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    instances: Vec<serde_json::Value>,
}

/// One entry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: String,
    #[serde(default = "one")]
    weight: u64,
}

fn one() -> u64 {
    1
}

/// Follows a file.
pub(super) struct FileFeed {
    path: PathBuf,
    /// `None` before the first reading, and where there is no file: the directory may be another one later, under the same name.
    watched: Option<Watched>,
}

impl FileFeed {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, watched: None }
    }
}

impl Feed for FileFeed {
    async fn next(&mut self) -> Result<Found, Trouble> {
        if let Some(watched) = &mut self.watched {
            new_or_gone(watched, &self.path).await;
        } else {
            tokio::fs::metadata(&self.path).await.map_err(unreadable)?;
            // Before the reading, so that no change falls in between.
            self.watched = Some(Watched::new(&self.path));
        }
        self.now().await
    }

    async fn now(&mut self) -> Result<Found, Trouble> {
        let is_json = self.path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json"));
        let found = match read(&self.path).await {
            Ok(text) => parse(&text, is_json),
            Err(trouble) => Err(trouble),
        };
        if matches!(found, Err(Trouble::File(_))) {
            self.watched = None;
        }
        found
    }
}

async fn new_or_gone(watched: &mut Watched, path: &Path) {
    // One wait, so that what it has seen and not yet believed is not forgotten at each look.
    let mut new = std::pin::pin!(watched.changed());
    loop {
        tokio::select! {
            () = &mut new => return,
            () = sleep(LOOK_EVERY) => if tokio::fs::metadata(path).await.is_err() { return },
        }
    }
}

async fn read(path: &Path) -> Result<String, Trouble> {
    let length = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if length > ANSWER_BYTES_MAX as u64 {
        return Err(Trouble::TooLong);
    }
    tokio::fs::read_to_string(path).await.map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "that is how `map_err` gives it")]
fn unreadable(error: std::io::Error) -> Trouble {
    Trouble::File(error.to_string())
}

/// The instances of a file. One bad entry is left out; a file that is not of this form says nothing at all, so that one that
/// is only half written does not count.
fn parse(text: &str, is_json: bool) -> Result<Found, Trouble> {
    let entries = if is_json {
        let list = serde_json::from_str::<Vec<serde_json::Value>>(text);
        list.or_else(|_| serde_json::from_str::<Table>(text).map(|table| table.instances))
            .map_err(|error| Trouble::Unreadable(error.to_string()))?
    } else {
        let table = toml::from_str::<Table>(text);
        table.map_err(|error| Trouble::Unreadable(error.message().to_owned()))?.instances
    };
    Ok(entries.into_iter().map(candidate).collect())
}

fn candidate(entry: serde_json::Value) -> Result<Candidate, Refused> {
    let entry: Entry = serde_json::from_value(entry).map_err(|_| Refused::Unreadable)?;
    let url = Url::parse(&entry.url).map_err(|_| Refused::Unreadable)?;
    let is_base = url.scheme() == "http"
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let host = url.host_str().filter(|_| is_base).ok_or(Refused::Unreadable)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_or_known_default().ok_or(Refused::NoPort)?;
    Ok(Candidate { host, port, weight: entry.weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, is_json: bool) -> Result<Vec<String>, Trouble> {
        let found = parse(text, is_json)?;
        Ok(found
            .instances
            .iter()
            .map(|instance| format!("{} {}", instance.endpoint, instance.weight))
            .collect())
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let expected = ["http://10.0.0.1:9001 3", "http://[2001:db8::1]:9001 1"].map(str::to_owned).to_vec();
        let toml = "[[instances]]\nurl = \"http://10.0.0.1:9001\"\nweight = 3\n\
                    [[instances]]\nurl = \"http://[2001:db8::1]:9001/\"\n";
        assert_eq!(shown(toml, false), Ok(expected.clone()));
        let list = r#"[{"url":"http://10.0.0.1:9001","weight":3},{"url":"http://[2001:db8::1]:9001"}]"#;
        assert_eq!(shown(list, true), Ok(expected.clone()));
        assert_eq!(shown(&format!("{{\"instances\":{list}}}"), true), Ok(expected));
    }

    #[test]
    fn a_bad_entry_is_left_out_alone() {
        let found = parse(
            r#"[{"url":"http://10.0.0.1:1"},{"url":"https://h"},{"url":"http://h/path"},{"url":"http://u@h"},{"weight":1},7,
               {"url":"http://169.254.169.254"},{"url":"http://10.0.0.2:1","weight":0},{"url":"http://h","weigth":2}]"#,
            true,
        );
        let found = found.unwrap();
        assert_eq!(found.instances.len(), 1);
        assert_eq!(found.refused.get(&Refused::Unreadable), Some(&6));
        assert_eq!(found.refused.get(&Refused::Forbidden), Some(&1));
    }

    #[test]
    fn a_file_that_is_half_written_or_of_another_form_says_nothing() {
        for text in ["", "[[instances]]\nurl = \"http://10.0", "instance = []", "[[instances]]\nurl =", "\0"]
        {
            assert!(matches!(shown(text, false), Err(Trouble::Unreadable(_))), "{text}");
        }
        for text in ["", "[", "{}", r#"[{"url":"http://h"}"#, "7", r#"{"instances":[],"more":1}"#] {
            assert!(matches!(shown(text, true), Err(Trouble::Unreadable(_))), "{text}");
        }
        assert_eq!((shown("instances = []", false), shown("[]", true)), (Ok(vec![]), Ok(vec![])));
    }
}
