use super::*;

#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn of_request<'a, A, B, F>(
    _: impl FnOnce(&'a Flow, &'a mut Connection, A, Target, Exchange, B, &'a mut Timer<'a>, Instant) -> F,
) -> usize {
    size_of::<F>()
}

fn of_client<A, B, C, D, E, G, F>(_: impl FnOnce(A, B, C, D, E, G) -> F) -> usize {
    size_of::<F>()
}

fn of_connection<'a, F>(_: impl FnOnce(&'a Flow, Connection, Option<OnRoute>) -> F) -> usize {
    size_of::<F>()
}

/// What an idle connection costs is its own future; a request's is boxed, which costs an allocation per request, and is
/// there only while the request is.
#[test]
fn a_connection_that_waits_is_small() {
    let request = of_request(carry);
    let connection = of_connection(serve);
    let client = of_client(crate::outbound::serve_service);
    println!("{request} bytes per request, {connection} per connection, {client} per client");
    assert!(request <= 1536, "{request} bytes per request");
    assert!(connection <= 640, "{connection} bytes per connection");
    assert!(client <= 768, "{client} bytes per client");
}
