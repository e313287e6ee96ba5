//! The gateway and its banks: their configuration, their addresses, and what they can be asked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::process::Command;

use super::super::bank::{Standing, Sum};
use super::addresses::Addresses;
use super::plan::{ACCOUNTS, BALANCE, BANKS};
use super::process::{Process, Recipe, free_port};
use super::{HarnessError, Options};

/// Everything that runs, in one directory.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) gateway_url: String,
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
        let bank_ports = BANKS.map(|_| free_port());
        let mut banks = Vec::new();
        for (name, port) in BANKS.iter().zip(bank_ports) {
            banks.push(Process::start(bank(options, name, port)?).await?);
        }
        let (listen, admin) = (free_port(), free_port());
        let log_dir = log_dir(&options.data_dir);
        let config = options.data_dir.join("unanimous.toml");
        write(&config, &configuration(&log_dir, listen, admin, bank_ports))?;
        let gateway_url = format!("http://127.0.0.1:{listen}");
        Ok(Self {
            addresses: Addresses::new(&gateway_url, format!("http://127.0.0.1:{admin}"))?,
            bank_urls: bank_ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect(),
            gateway: Process::start(gateway(options, &config, admin)).await?,
            banks,
            program: options.program.clone(),
            gateway_url,
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

fn gateway(options: &Options, config: &Path, admin: u16) -> Recipe {
    Recipe {
        name: "the gateway".to_owned(),
        program: options.program.clone(),
        arguments: vec!["serve".into(), "--config".into(), config.into()],
        ready_url: format!("http://127.0.0.1:{admin}/readyz"),
        stderr: options.data_dir.join("gateway.stderr"),
        patience: options.patience,
    }
}

fn bank(options: &Options, name: &str, port: u16) -> Result<Recipe, HarnessError> {
    let banks = options.data_dir.join("banks");
    let doing = || format!("make {}", banks.display());
    std::fs::create_dir_all(&banks).map_err(|source| HarnessError::Machine { doing: doing(), source })?;
    let mut arguments: Vec<OsString> = vec!["demo-bank".into()];
    arguments.extend(["--name".into(), name.into(), "--listen".into(), format!("127.0.0.1:{port}").into()]);
    arguments.extend(["--data-dir".into(), banks.join(name).into()]);
    arguments.extend(["--accounts".into(), ACCOUNTS.to_string().into()]);
    arguments.extend(["--balance".into(), BALANCE.to_string().into()]);
    Ok(Recipe {
        name: format!("bank {name}"),
        program: options.program.clone(),
        arguments,
        ready_url: format!("http://127.0.0.1:{port}/sum"),
        stderr: banks.join(format!("{name}.stderr")),
        patience: options.patience,
    })
}

/// The configuration of the gateway, with its real directory and ports.
fn configuration(log_dir: &Path, listen: u16, admin: u16, banks: [u16; BANKS.len()]) -> String {
    let text = include_str!("demo.toml")
        .replace("DATA_DIR", &log_dir.display().to_string())
        .replace("PORT_CLIENTS", &listen.to_string())
        .replace("PORT_OPERATORS", &admin.to_string());
    let with_port =
        |text: String, (name, port): (&&str, u16)| text.replace(&format!("PORT_{name}"), &port.to_string());
    BANKS.iter().zip(banks).fold(text, with_port)
}

fn write(path: &Path, text: &str) -> Result<(), HarnessError> {
    let doing = || format!("write {}", path.display());
    std::fs::write(path, text).map_err(|source| HarnessError::Machine { doing: doing(), source })
}
