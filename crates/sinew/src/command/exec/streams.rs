//! A command with pipes.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::thread::JoinHandle;

use sinew_spec::seal::Command;
use sinew_transport::seal::{InitClient, InitError};

/// The exit code. Returns when the command has ended and everything it wrote has been passed on.
pub async fn run(init: InitClient, command: Command, interactive: bool) -> Result<i32, InitError> {
    let (out, out_inside) = io::pipe()?;
    let (errors, errors_inside) = io::pipe()?;
    let mut exec = if interactive {
        let (inside, input) = io::pipe()?;
        let exec = init.exec(command, [inside.as_fd(), out_inside.as_fd(), errors_inside.as_fd()]).await?;
        pass_input(input);
        exec
    } else {
        let nothing = File::open("/dev/null")?;
        init.exec(command, [nothing.as_fd(), out_inside.as_fd(), errors_inside.as_fd()]).await?
    };
    // The ends inside are the command's alone now: theirs closed means that all was written.
    drop((out_inside, errors_inside));
    let copies = [copy(out, io::stdout()), copy(errors, io::stderr())];
    let code = exec.wait().await?;
    for copy in copies {
        drain(copy).await;
    }
    Ok(code)
}

/// Ends with the process: a read from a terminal cannot be called back.
fn pass_input(mut input: PipeWriter) {
    std::thread::spawn(move || io::copy(&mut io::stdin().lock(), &mut input));
}

fn copy(mut from: PipeReader, mut to: impl Write + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        // A reader who went away closes the pipe, and the command is told by its next write.
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..length]).and_then(|()| to.flush()).is_err() {
                return;
            }
        }
    })
}

/// A process that the command left behind may hold the pipe for ever: what the command wrote is there by then.
pub async fn drain(copy: JoinHandle<()>) {
    const WAIT: std::time::Duration = std::time::Duration::from_millis(500);
    let _ = tokio::time::timeout(WAIT, tokio::task::spawn_blocking(move || copy.join())).await;
}
