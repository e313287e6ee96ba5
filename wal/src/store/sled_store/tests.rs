//! What is around sled: its errors, its syncs, the files beside it, and its end.

use super::*;

#[test]
fn an_error_that_sled_has_copied_is_the_system_s_again() {
    let first = io::Error::from_raw_os_error(28);
    let copy = sled::Error::Io(first).clone();
    let survived = survive::<()>(|| Err(copy)).unwrap_err();
    assert_eq!((survived.raw_os_error(), survived.kind()), (Some(28), io::ErrorKind::StorageFull));
    let own = survive::<()>(|| Err(sled::Error::Io(io::Error::other("no number")))).unwrap_err();
    assert_eq!(own.to_string(), "no number");
}

pub(super) fn store(directory: &Path) -> SledStore {
    let files = Files::new(directory);
    let guard = Guard::New { _file: files.create_and_lock().unwrap() };
    SledStore::open(files, guard).unwrap()
}

#[test]
fn what_sled_never_syncs_is_looked_for_at_every_1024th_sync() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    std::fs::write(directory.path().join("store/blobs/1"), b"a value").unwrap();
    for sync in 1..1024 {
        assert!(store.sync().is_ok(), "sync {sync}");
    }
    let refused = store.sync().unwrap_err().to_string();
    assert!(refused.contains("blobs"), "{refused}");
}

#[test]
fn a_witness_that_was_cut_short_is_read_as_far_as_it_goes_and_one_that_cannot_be_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    store.write_witness(Slot::A, &[1; WITNESS_LEN]).unwrap();
    let path = directory.path().join("witness");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(SLOT_STRIDE + 10).unwrap();
    assert_eq!(store.read_witness().unwrap(), [vec![1; WITNESS_LEN], vec![]]);
    file.set_len(10).unwrap();
    assert_eq!(store.read_witness().unwrap(), [vec![], vec![]]);
    // This one may only be written.
    store.witness = file;
    assert!(store.read_witness().is_err());
}

#[test]
fn what_lies_beside_it_has_its_whole_length_from_the_beginning() {
    let directory = tempfile::tempdir().unwrap();
    drop(store(directory.path()));
    for (name, pages) in [("witness", 2), ("ring", 1026)] {
        let len = std::fs::metadata(directory.path().join(name)).unwrap().len();
        assert_eq!(len, pages * 4096, "{name}");
    }
}

#[test]
fn a_file_that_is_too_short_gets_its_length_and_keeps_what_it_held() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, b"held").unwrap();
    for (length, has) in [(4, 4), (10, 10), (8, 10)] {
        open_with_room(&path, length).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), has);
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"held\0\0\0\0\0\0");
}

#[test]
fn a_panic_in_sled_is_an_error_with_its_words() {
    let words = |error: io::Error| (error.kind(), error.to_string());
    let invalid = |words: &str| (io::ErrorKind::InvalidData, format!("sled panicked: {words}"));
    assert_eq!(words(survive::<()>(|| std::panic::panic_any("as it is")).unwrap_err()), invalid("as it is"));
    let made = "made".to_owned();
    assert_eq!(words(survive::<()>(|| std::panic::panic_any(made)).unwrap_err()), invalid("made"));
    assert_eq!(words(survive::<()>(|| std::panic::panic_any(7)).unwrap_err()), invalid("without a word"));
}

#[test]
fn a_copy_is_put_aside_unless_there_is_one_or_the_log_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let aside = directory.path().join("aside-1");
    assert_eq!(store.set_aside().unwrap(), Some(aside.clone()));
    assert!(aside.join("store/db").exists());
    let lock = |aside| Guard::Lock { _file: tempfile::tempfile().unwrap(), aside };
    store.guard = lock(Some(aside.clone()));
    assert_eq!(store.set_aside().unwrap(), Some(aside));
    store.guard = lock(None);
    assert_eq!(store.set_aside().unwrap(), Some(directory.path().join("aside-2")));
    store.guard = Guard::Copy { _directory: tempfile::tempdir().unwrap() };
    assert_eq!(store.set_aside().unwrap(), None);
}

/// What sled holds locked it has not closed.
#[test]
fn after_an_error_sled_is_not_closed() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let data = File::open(store.files.data()).unwrap();
    let _ = store.fails("write")(io::Error::other("a sick disk"));
    drop(store);
    // On a thread of its own it would let go of it a moment later.
    for _ in 0..10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(data.try_lock_shared().is_err());
    }
}
