use super::*;

fn of_request<'a, F>(_: impl FnOnce(&'a Flow, &'a mut Connection, Come, &'a mut Timer<'a>) -> F) -> usize {
    size_of::<F>()
}

fn of_client<A, B, C, D, E, G, F>(_: impl FnOnce(A, B, C, D, E, G) -> F) -> usize {
    size_of::<F>()
}

fn of_connection<'a, F>(_: impl FnOnce(&'a Flow, Connection) -> F) -> usize {
    size_of::<F>()
}

/// What an idle connection costs is its own future; a request's is boxed, which costs an allocation per request, and is
/// there only while the request is.
#[test]
fn a_connection_that_waits_is_small() {
    let request = of_request(request);
    let connection = of_connection(serve_counted);
    assert!(request <= 3 * 1024, "{request} bytes per request");
    assert!(connection <= 1024, "{connection} bytes per connection");
    let client = of_client(crate::outbound::serve_service);
    assert!(client <= 1536, "{client} bytes per client");
}
