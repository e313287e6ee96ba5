//! The gateway and its banks: their configuration, their addresses, and what they can be asked.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::process::Command;

use super::super::bank::{Standing, Sum};
use super::addresses::Addresses;
use super::network::{Place, Way};
use super::plan::{ACCOUNTS, BALANCE, BANKS};
use super::process::{Process, Recipe, free_port};
use super::{HarnessError, Options};

/// Everything that runs, in one directory.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) gateway_url: String,
    pub(super) admin_url: String,
    addresses: Addresses,
    bank_urls: Vec<String>,
    gateway: Process,
    banks: Vec<Process>,
    program: PathBuf,
    log_dir: PathBuf,
}

impl Cluster {
    /// Starts three banks and a gateway, and waits until all are ready.
    pub(super) async fn start(options: &Options) -> Result<Self, HarnessError> {
        let ways: Vec<Way> = (0..BANKS.len()).map(|bank| options.network.bank(bank)).collect();
        let mut banks = Vec::new();
        for (name, way) in BANKS.iter().zip(&ways) {
            banks.push(Process::start(bank(options, name, way.listens)?).await?);
        }
        let place = options.network.gateway();
        let [listen, admin] = [(); 2].map(|()| SocketAddr::from((place.host, free_port())));
        let log_dir = log_dir(&options.data_dir);
        let config = options.data_dir.join("unanimous.toml");
        let called = ways.iter().map(|way| way.called);
        write(&config, &configuration(&log_dir, listen, admin, called))?;
        let (gateway_url, admin_url) = (format!("http://{listen}"), format!("http://{admin}"));
        Ok(Self {
            addresses: Addresses::new(&gateway_url, admin_url.clone())?,
            bank_urls: ways.iter().map(|way| format!("http://{}", way.listens)).collect(),
            gateway: Process::start(gateway(options, place, &config, admin)).await?,
            banks,
            program: options.program.clone(),
            gateway_url,
            admin_url,
            log_dir,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// The processes, for those who kill them.
    pub(super) fn processes(&mut self) -> (&mut Process, &mut [Process]) {
        (&mut self.gateway, &mut self.banks)
    }

    /// What is in each bank.
    pub(super) async fn sums(&self) -> Result<Vec<Sum>, HarnessError> {
        self.ask_banks("/sum").await
    }

    /// What each bank believes of every transaction it has heard of.
    pub(super) async fn standings(&self) -> Result<Vec<Vec<Standing>>, HarnessError> {
        self.ask_banks("/transactions").await
    }

    async fn ask_banks<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, HarnessError> {
        let mut answers = Vec::new();
        for url in &self.bank_urls {
            answers.push(self.addresses.get(&format!("{url}{path}")).await?);
        }
        Ok(answers)
    }

    /// Asks until nothing is in doubt.
    pub(super) async fn wait_until_nothing_is_in_doubt(
        &self,
        patience: Duration,
    ) -> Result<(), HarnessError> {
        let asking = async {
            while !self.addresses.in_doubt().await?.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        let what = || "nothing to be in doubt".to_owned();
        let asked = tokio::time::timeout(patience, asking).await;
        asked.unwrap_or_else(|_| Err(HarnessError::Stuck { what: what(), patience }))
    }

    /// Kills all that runs.
    pub(super) async fn stop(&mut self) -> Result<(), HarnessError> {
        self.gateway.kill().await?;
        for bank in &mut self.banks {
            bank.kill().await?;
        }
        Ok(())
    }

    /// Lets `unanimous verify` read the log of the gateway, which has just been killed once more; what it found.
    pub(super) async fn verify(&self) -> Result<Option<String>, HarnessError> {
        let ran =
            Command::new(&self.program).arg("verify").arg("--data-dir").arg(&self.log_dir).output().await;
        let doing = || "run `unanimous verify`".to_owned();
        let output = ran.map_err(|source| HarnessError::Machine { doing: doing(), source })?;
        let said = || [output.stdout.as_slice(), &output.stderr].concat();
        let problem = || format!("`unanimous verify` found: {}", String::from_utf8_lossy(&said()).trim());
        Ok((!output.status.success()).then(problem))
    }
}

/// Where the gateway keeps its log.
pub(super) fn log_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("gateway")
}

fn gateway(options: &Options, place: Place, config: &Path, admin: SocketAddr) -> Recipe {
    let mut command = place.before;
    command.extend([options.program.clone().into(), "serve".into(), "--config".into(), config.into()]);
    Recipe {
        name: "the gateway".to_owned(),
        command,
        variables: options.retention.map(retention).into_iter().collect(),
        ready_url: format!("http://{admin}/readyz"),
        stderr: options.data_dir.join("gateway.stderr"),
        patience: options.patience,
    }
}

fn retention(keep: Duration) -> (String, String) {
    ("UNANIMOUS__LOG__RETENTION".to_owned(), format!("{}ms", keep.as_millis()))
}

fn bank(options: &Options, name: &str, listen: SocketAddr) -> Result<Recipe, HarnessError> {
    let banks = options.data_dir.join("banks");
    let doing = || format!("make {}", banks.display());
    std::fs::create_dir_all(&banks).map_err(|source| HarnessError::Machine { doing: doing(), source })?;
    let mut command: Vec<OsString> = vec![options.program.clone().into(), "demo-bank".into()];
    command.extend(["--name".into(), name.into(), "--listen".into(), listen.to_string().into()]);
    command.extend(["--data-dir".into(), banks.join(name).into()]);
    command.extend(["--accounts".into(), ACCOUNTS.to_string().into()]);
    command.extend(["--balance".into(), BALANCE.to_string().into()]);
    Ok(Recipe {
        name: format!("bank {name}"),
        command,
        variables: Vec::new(),
        ready_url: format!("http://{listen}/sum"),
        stderr: banks.join(format!("{name}.stderr")),
        patience: options.patience,
    })
}

/// The configuration of the gateway, with its real directory and addresses.
fn configuration(
    log_dir: &Path,
    listen: SocketAddr,
    admin: SocketAddr,
    banks: impl Iterator<Item = SocketAddr>,
) -> String {
    let text = include_str!("demo.toml")
        .replace("DATA_DIR", &log_dir.display().to_string())
        .replace("ADDRESS_CLIENTS", &listen.to_string())
        .replace("ADDRESS_OPERATORS", &admin.to_string());
    let with_address = |text: String, (name, address): (&&str, SocketAddr)| {
        text.replace(&format!("ADDRESS_{name}"), &address.to_string())
    };
    BANKS.iter().zip(banks).fold(text, with_address)
}

fn write(path: &Path, text: &str) -> Result<(), HarnessError> {
    let doing = || format!("write {}", path.display());
    std::fs::write(path, text).map_err(|source| HarnessError::Machine { doing: doing(), source })
}
