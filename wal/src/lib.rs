#![allow(warnings)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);
impl Lsn {
    pub const FIRST: Self = Self(1);
    pub fn new(n: u64) -> Option<Self> {
        (n > 0).then_some(Self(n))
    }
    pub fn get(self) -> u64 {
        self.0
    }
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
#[derive(Debug, Clone)]
pub struct Durable<T>(T);
impl<T> Durable<T> {
    pub fn lsn(&self) -> Option<Lsn> {
        todo!()
    }
    pub fn get(&self) -> &T {
        &self.0
    }
    pub fn into_inner(self) -> T {
        self.0
    }
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Durable<U> {
        Durable(f(self.0))
    }
}
impl<T> Durable<Vec<T>> {
    pub fn into_each(self) -> impl Iterator<Item = Durable<T>> {
        self.0.into_iter().map(Durable)
    }
}
#[derive(Debug, Clone, thiserror::Error)]
#[error("poisoned")]
pub struct Poisoned;
#[derive(Debug, thiserror::Error)]
#[error("read")]
pub struct ReadError;
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("locked")]
    Locked,
}
#[derive(Debug, Clone)]
pub struct Wal;
pub struct Synced;
impl Future for Synced {
    type Output = Result<(), Poisoned>;
    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        todo!()
    }
}
pub struct Reader;
impl Iterator for Reader {
    type Item = Result<(Lsn, Vec<u8>), ReadError>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
impl Wal {
    pub async fn append<T>(&self, payload: Vec<u8>, then: T) -> Result<Durable<T>, Poisoned> {
        todo!()
    }
    pub async fn append_lazily<T>(
        &self,
        payload: Vec<u8>,
        then: T,
    ) -> Result<(Durable<T>, Synced), Poisoned> {
        todo!()
    }
    pub fn read(&self, from: Lsn) -> Reader {
        todo!()
    }
    pub fn low(&self) -> Lsn {
        todo!()
    }
    pub fn high(&self) -> Option<Lsn> {
        todo!()
    }
    pub fn follow(&self) -> tokio::sync::watch::Receiver<u64> {
        todo!()
    }
    pub async fn retire(&self, below: Lsn) -> Result<(), Poisoned> {
        todo!()
    }
    pub fn node(&self) -> u32 {
        todo!()
    }
    pub fn epoch(&self) -> u64 {
        todo!()
    }
    pub async fn poisoned(&self) -> Poisoned {
        todo!()
    }
    pub async fn close(self) -> Result<(), Poisoned> {
        todo!()
    }
}
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub accept_damage: bool,
}
pub fn open(dir: &std::path::Path, options: Options) -> Result<Log, OpenError> {
    todo!()
}
pub struct Log;
pub enum ReadAllError<E> {
    Open(OpenError),
    Visit(E),
}
impl Log {
    pub fn read_all<E>(
        self,
        visit: impl FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<Readable, ReadAllError<E>> {
        todo!()
    }
}
pub struct Readable;
impl Readable {
    pub fn start(self) -> Result<Wal, OpenError> {
        todo!()
    }
    pub fn read_back<T>(&self, value: T) -> Durable<T> {
        todo!()
    }
}
