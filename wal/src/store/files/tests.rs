//! The files of a log: what may be there, what must be, and what cannot be opened.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn what_is_not_there_is_none_and_what_cannot_be_opened_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    assert!(files.lock_shared().unwrap().is_none() && files.node().unwrap().is_none());
    assert!(Files::new(&directory.path().join("absent")).refuse_foreign().is_ok());
    for name in [LOCK, MARKER] {
        // It leads to itself.
        symlink(name, directory.path().join(name)).unwrap();
    }
    assert!(matches!(files.lock_shared(), Err(OpenError::Io { .. })));
    assert!(matches!(files.node(), Err(OpenError::Io { .. })));
    assert!(matches!(files.refuse_foreign(), Err(OpenError::Io { .. })));
    fs::remove_file(directory.path().join(MARKER)).unwrap();
    fs::write(directory.path().join(MARKER), [0xff]).unwrap();
    assert!(matches!(files.node(), Err(OpenError::Damage(_))) && files.refuse_foreign().is_ok());
}

#[test]
fn three_copies_are_kept_at_the_first_places_that_are_free() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    assert!(files.set_aside().is_err(), "there is no log");
    fs::write(files.ring(), b"the ring alone").unwrap();
    fs::create_dir(directory.path().join("aside-2")).unwrap();
    for name in ["aside-1", "aside-3"] {
        let aside = files.set_aside().unwrap();
        assert_eq!(aside, directory.path().join(name));
        assert_eq!(fs::read(aside.join(RING)).unwrap(), b"the ring alone");
    }
    assert!(matches!(files.set_aside(), Err(OpenError::TooManyAsides { count: ASIDES_MAX, .. })));
}

#[test]
fn only_what_may_be_missing_is_fine() {
    let error = |kind: io::ErrorKind| absent_is_fine(Err(kind.into())).map_err(|error| error.kind());
    assert_eq!(error(io::ErrorKind::NotFound), Ok(()));
    assert_eq!(error(io::ErrorKind::PermissionDenied), Err(io::ErrorKind::PermissionDenied));
}

#[test]
fn without_a_marker_only_what_an_unfinished_creation_leaves_is_ours() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    for name in OURS.into_iter().chain(["aside-1", "start-1.2"]) {
        fs::write(directory.path().join(name), b"").unwrap();
    }
    assert!(files.refuse_foreign().is_ok());
    fs::write(directory.path().join("start"), b"").unwrap();
    let refused = files.refuse_foreign();
    assert!(matches!(refused, Err(OpenError::Foreign { stranger, .. }) if stranger == "start"));
    files.write_marker(7).unwrap();
    assert!(files.refuse_foreign().is_ok() && files.node().unwrap() == Some(7));
}

#[test]
fn what_an_unfinished_creation_left_is_taken_away() {
    let directory = tempfile::tempdir().unwrap();
    let files = Files::new(directory.path());
    fs::create_dir_all(files.store().join("blobs")).unwrap();
    fs::write(files.ring(), b"half").unwrap();
    files.wipe_unfinished().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn two_new_logs_are_told_apart() {
    assert_ne!(new_node(), new_node());
    assert_ne!(random(), random());
}
