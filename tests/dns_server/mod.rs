//! A name server for tests, over UDP and TCP: it answers from a zone that a test changes, and counts what it is asked.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "each test file is a crate of its own, and the server a module in it")]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// A scripted name server. Dropping it stops it.
pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Mutex<Zone>>,
    _running: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<(Name, RecordType), Vec<Record>>,
    /// Records that come with the answers to SRV questions.
    glue: Vec<Record>,
    failing: Option<ResponseCode>,
    failing_types: Vec<RecordType>,
    is_silent: bool,
    /// Whether answers over UDP say that they are cut.
    is_cut: bool,
    asked: Vec<(String, RecordType)>,
}

pub fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

impl Server {
    pub async fn start() -> Self {
        // Both listeners want the same port, which may be taken for one of them.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let (address, shared) = (udp.local_addr().unwrap(), Arc::<Mutex<Zone>>::default());
        let mut running = JoinSet::new();
        running.spawn(over_udp(udp, shared.clone()));
        running.spawn(over_tcp(tcp, shared.clone()));
        Self { address, shared, _running: running }
    }

    /// From now on the name has these addresses, and no others of either family.
    pub fn addresses(&self, of: &str, ttl: u32, addresses: &[&str]) {
        let mut zone = self.zone();
        for of_type in [RecordType::A, RecordType::AAAA] {
            zone.records.remove(&(name(of), of_type));
        }
        for address in addresses {
            let record = address_record(of, ttl, address);
            zone.records.entry((name(of), record.data.record_type())).or_default().push(record);
        }
    }

    /// From now on the service has these records: priority, weight, port, host.
    pub fn services(&self, of: &str, ttl: u32, services: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, host): &(u16, u16, u16, &str)| {
            Record::from_rdata(name(of), ttl, RData::SRV(SRV::new(*priority, *weight, *port, name(host))))
        };
        let records = services.iter().map(record).collect();
        self.zone().records.insert((name(of), RecordType::SRV), records);
    }

    /// Addresses that come with the answers to SRV questions.
    pub fn glue(&self, of: &str, ttl: u32, address: &str) {
        let record = address_record(of, ttl, address);
        self.zone().glue.push(record);
    }

    /// The name does not exist from now on.
    pub fn remove(&self, of: &str) {
        let of = name(of);
        self.zone().records.retain(|(name, _), _| *name != of);
    }

    /// Every question fails so, or none does.
    pub fn fails(&self, failing: Option<ResponseCode>) {
        self.zone().failing = failing;
    }

    /// Questions for these types fail with SERVFAIL.
    pub fn fails_for(&self, types: &[RecordType]) {
        self.zone().failing_types = types.to_vec();
    }

    /// Whether nothing is answered.
    pub fn is_silent(&self, is_silent: bool) {
        self.zone().is_silent = is_silent;
    }

    /// Whether answers over UDP are cut, so that only TCP has them.
    pub fn is_cut(&self, is_cut: bool) {
        self.zone().is_cut = is_cut;
    }

    /// How often this was asked.
    pub fn count(&self, of: &str, of_type: RecordType) -> usize {
        let wanted = of.to_lowercase();
        self.zone().asked.iter().filter(|(name, asked)| *name == wanted && *asked == of_type).count()
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.shared.lock().unwrap()
    }
}

fn address_record(of: &str, ttl: u32, address: &str) -> Record {
    let data = match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Record::from_rdata(name(of), ttl, data)
}

async fn over_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut bytes = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
        let answer = zone.lock().unwrap().answer(&bytes[..length], true);
        if let Some(answer) = answer {
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

async fn over_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, zone.clone()));
    }
}

async fn connection(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut bytes = vec![0; length.into()];
        if stream.read_exact(&mut bytes).await.is_err() {
            return;
        }
        let answer = zone.lock().unwrap().answer(&bytes, false);
        let Some(answer) = answer else { continue };
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        if stream.write_all(&[&length[..], &answer].concat()).await.is_err() {
            return;
        }
    }
}

impl Zone {
    fn answer(&mut self, question: &[u8], is_udp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries.first().unwrap().clone();
        let of = Name::from_ascii(query.name().to_ascii().to_lowercase()).unwrap();
        self.asked.push((of.to_ascii(), query.query_type()));
        if self.is_silent {
            return None;
        }
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        let exists = self.records.keys().any(|(name, _)| *name == of);
        let records = self.records.get(&(of, query.query_type())).cloned().unwrap_or_default();
        if let Some(failing) = self.failing {
            answer.metadata.response_code = failing;
        } else if self.failing_types.contains(&query.query_type()) {
            answer.metadata.response_code = ResponseCode::ServFail;
        } else if is_udp && self.is_cut {
            answer.metadata.truncation = true;
        } else if records.is_empty() {
            let code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
            answer.metadata.response_code = code;
            // RFC 2308: the last field says for how long that holds.
            let soa = SOA::new(name("ns.internal."), name("admin.internal."), 1, 60, 60, 60, 1);
            answer.add_authority(Record::from_rdata(name("internal."), 1, RData::SOA(soa)));
        } else {
            answer.add_answers(records);
            if query.query_type() == RecordType::SRV {
                answer.add_additionals(self.glue.clone());
            }
        }
        Some(answer.to_vec().unwrap())
    }
}
