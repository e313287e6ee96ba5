//! The services that open transactions may need, on the disk beside the log.
//!
//! The log has of a transaction who takes part, the paths and the bodies; where a service is and how patiently it is called
//! is in the configuration. If a service were taken out of that while a transaction with it is in doubt, and the node
//! then went down, nobody would know any more where to send the decision. So what the configuration says of the services
//! that take part is written here before it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Origin, Setup};
use crate::discovery::{Discovery, Sources};
use crate::participant::services::Services;

/// In the directory of the log.
const NAME: &str = "services.toml";

const PREFACE: &str = "\
# Written by unanimous, which reads it at a start: what the configuration said of the services that take part in
# transactions. It counts only for a service that the configuration no longer has and that a transaction in doubt needs.
";

/// Sections of the configuration, by the name of the service.
pub type Sections = BTreeMap<String, String>;

/// The file, and what is in it.
#[derive(Debug)]
pub(in crate::server) struct Remembered {
    pub(super) path: PathBuf,
    sections: Sections,
}

impl Remembered {
    /// What a start knows: what the configuration says, and of the services in `needed` that it does not have, what an
    /// earlier one said; those are added to `services`.
    pub(super) async fn at_start(
        setup: &Setup,
        origin: &Origin,
        needed: impl Iterator<Item = String>,
        services: &Services,
    ) -> Self {
        let path = setup.node.data_dir.join(NAME);
        let missing: BTreeSet<String> =
            needed.filter(|name| !setup.participants.contains_key(name)).collect();
        let mut sections = setup.sections.clone();
        if !missing.is_empty() {
            let is_missing = |name: &str| missing.contains(name);
            match earlier(&path, origin).await {
                Ok(mut earlier) => {
                    earlier.participants.retain(|name, _| is_missing(name));
                    earlier.sections.retain(|name, _| is_missing(name));
                    let names = earlier.sections.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    tracing::info!(
                        "the configuration no longer has these services, and transactions in doubt need them: {names}; \
                         they are called as an earlier configuration said"
                    );
                    earlier.sources.retain(|name, _| is_missing(name));
                    let found: Arc<dyn Discovery> = Arc::new(Sources::new(earlier.sources, None));
                    services.add(earlier.participants, &found);
                    sections.append(&mut earlier.sections);
                }
                Err(mistakes) => {
                    let (mistakes, aside) = (mistakes.join("; "), path.with_extension("toml.unreadable"));
                    // It is about to be written anew, and may be all that is known.
                    let kept = fs::rename(&path, &aside).is_ok();
                    tracing::error!(
                        kept, aside = %aside.display(),
                        "the configuration no longer has services that transactions in doubt need, and what it said \
                         of them cannot be read; put them back: {mistakes}"
                    );
                }
            }
        }
        let mut remembered = Self { path, sections: Sections::new() };
        // What is in doubt has to be finished, also on a disk that takes nothing any more.
        if let Err(error) = remembered.keep(sections).await {
            tracing::warn!(
                path = %remembered.path.display(), %error,
                "what the configuration says of the services could not be kept: leave them in it until no transaction \
                 is in doubt"
            );
        }
        remembered
    }

    /// The sections that are kept now.
    pub(super) fn sections(&self) -> &Sections {
        &self.sections
    }

    /// Keeps these in place of what was kept: all of them, on stable storage, or nothing.
    pub(super) async fn keep(&mut self, sections: Sections) -> io::Result<()> {
        let path = self.path.clone();
        let writing = tokio::task::spawn_blocking(move || write(&path, &sections).map(|()| sections));
        self.sections = writing.await.expect("writing a file does not panic")?;
        Ok(())
    }
}

/// What was kept last; nothing where nothing was.
async fn earlier(path: &Path, origin: &Origin) -> Result<Setup, Vec<String>> {
    let name = path.display().to_string();
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || fs::read_to_string(path));
    let text = match reading.await.expect("reading a file does not panic") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(vec![format!("{name}: {error}")]),
    };
    (origin.parse)(&name, &text)
}

fn write(path: &Path, sections: &Sections) -> io::Result<()> {
    let text: String = std::iter::once(PREFACE).chain(sections.values().map(String::as_str)).collect();
    // A node without transactions leaves nothing here.
    let known = fs::read_to_string(path).unwrap_or_else(|_| PREFACE.to_owned());
    if known == text {
        return Ok(());
    }
    let unfinished = path.with_extension("toml.unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
