//! tokio-tungstenite on tokio current_thread. tokio_tung PORT echo|broadcast
use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_tungstenite::{accept_async, tungstenite::Message};

type Room = Arc<Mutex<slab::Slab<mpsc::UnboundedSender<Message>>>>;

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let port: u16 = a[1].parse().unwrap();
    let room: Option<Room> = (a.get(2).map(|s| s.as_str()) == Some("broadcast")).then(Default::default);
    let rt = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    rt.block_on(async move {
        let s = tokio::net::TcpSocket::new_v4().unwrap();
        s.set_reuseaddr(true).unwrap();
        s.bind(([127, 0, 0, 1], port).into()).unwrap();
        let l = s.listen(4096).unwrap();
        eprintln!("listening on {port}");
        loop {
            let Ok((stream, _)) = l.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let room = room.clone();
            tokio::task::spawn(async move {
                let Ok(ws) = accept_async(stream).await else { return };
                let (mut tx, mut rx) = ws.split();
                match room {
                    None => {
                        let _ = rx.try_filter(|m| future::ready(m.is_text() || m.is_binary())).forward(tx).await;
                    }
                    Some(room) => {
                        let (send, mut recv) = mpsc::unbounded_channel();
                        let id = room.lock().unwrap().insert(send);
                        tokio::task::spawn(async move {
                            while let Some(m) = recv.recv().await {
                                let mut next = Some(m);
                                while let Some(m) = next {
                                    if tx.feed(m).await.is_err() {
                                        return;
                                    }
                                    next = recv.try_recv().ok();
                                }
                                if tx.flush().await.is_err() {
                                    return;
                                }
                            }
                        });
                        while let Some(Ok(m)) = rx.next().await {
                            if m.is_text() || m.is_binary() {
                                for (_, t) in room.lock().unwrap().iter() {
                                    let _ = t.send(m.clone());
                                }
                            }
                        }
                        room.lock().unwrap().remove(id);
                    }
                }
            });
        }
    });
}
