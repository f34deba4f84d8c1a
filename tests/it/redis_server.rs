//! A Redis for each test that needs one.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// A Redis of one test. It keeps nothing.
pub struct Redis {
    port: u16,
    process: Child,
}

impl Redis {
    /// Prints a note and returns `None` if there is no `redis-server` on this machine.
    pub fn start() -> Option<Self> {
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
        let Some(process) = run(port) else {
            eprintln!("skipped: there is no redis-server");
            return None;
        };
        Some(Self { port, process })
    }

    pub fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }

    pub fn start_again(&mut self) {
        self.process = run(self.port).expect("redis-server");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).expect("a URL")
    }

    /// Sends a command, as a stranger could.
    pub async fn send<T: redis::FromRedisValue>(&self, command: &mut redis::Cmd) -> T {
        let mut connection = self.client().get_multiplexed_async_connection().await.expect("Redis");
        command.query_async(&mut connection).await.expect("an answer")
    }

    /// The channels of orders that somebody listens to.
    pub async fn channels(&self) -> Vec<String> {
        self.send(redis::cmd("PUBSUB").arg("CHANNELS").arg("ordercast1:l:*")).await
    }

    /// How many connections listen to the channels of orders, all together.
    pub async fn listeners(&self) -> i64 {
        let (mut ask, channels) = (redis::cmd("PUBSUB"), self.channels().await);
        let counted: Vec<(String, i64)> = self.send(ask.arg("NUMSUB").arg(channels)).await;
        counted.into_iter().map(|(_, count)| count).sum()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(port: u16) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}
