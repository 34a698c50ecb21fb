use super::*;

#[test]
fn two_versions_run_beside_each_other_unless_something_is_shared_or_the_file_says_so() {
    let check = |change: &dyn Fn(&mut Service), expected: bool| {
        let mut service = Service::new("orders", vec!["orders".into()]);
        change(&mut service);
        assert_eq!(may_run_beside(&service), expected);
    };
    let mount = |read_only| {
        let source = sinew_spec::application::MountSource::Volume("data".to_owned());
        sinew_spec::application::Mount::new(source, "/data", read_only)
    };
    check(&|_| {}, true);
    check(&|service| service.mounts.push(mount(true)), true);
    check(&|service| service.mounts.push(mount(false)), false);
    check(&|service| service.replacing.stop_first = true, false);
}
