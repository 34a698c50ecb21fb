use super::*;

fn find_in(variables: &[(&str, &str)], uid: u32) -> String {
    let variable =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    match find_with(&variable, uid) {
        Ok(engine) => engine.socket().display().to_string(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn the_environment_comes_first() {
    assert_eq!(find_in(&[("DOCKER_HOST", "unix:///x/y.sock")], 0), "/x/y.sock");
    let both = [("DOCKER_HOST", "unix:///d.sock"), ("CONTAINER_HOST", "unix:///c.sock")];
    assert_eq!(find_in(&both, 0), "/c.sock");
    assert_eq!(
        find_in(&[("DOCKER_HOST", "tcp://host:2375")], 0),
        "error: DOCKER_HOST=tcp://host:2375: only a Unix socket of this host can be used: \
         `unix:///run/podman/podman.sock`"
    );
}

#[test]
fn an_ordinary_user_has_a_socket_of_ones_own() {
    let places = places(&|_| None, 1000);
    assert_eq!(places[0], Path::new("/run/user/1000/podman/podman.sock"));
}

#[test]
fn versions_are_compared_by_number() {
    assert!(number("3.4.4") < PODMAN_VERSION_MIN);
    assert!(number("4.3.1") >= PODMAN_VERSION_MIN);
    assert!(number("10.0.0-dev") >= PODMAN_VERSION_MIN);
    assert_eq!(number("x"), (0, 0));
}
