//! A cluster to look at: starts one, says how to reach it, and keeps it until this program ends.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use penstock_e2e::{Cluster, Image};

const BUSYBOX: &str = "penstock.local/busybox:1";

fn main() {
    let cluster = Cluster::start();
    cluster.load_image(BUSYBOX, &Image::busybox());
    println!("The node is Ready, and {BUSYBOX} is on it. Ctrl-C ends everything.");
    let kubectl = cluster.kubectl_command();
    let line: Vec<_> = std::iter::once(kubectl.get_program())
        .chain(kubectl.get_args())
        .map(|word| word.display().to_string())
        .collect();
    println!("kubectl: {}", line.join(" "));
    loop {
        std::thread::park();
    }
}
