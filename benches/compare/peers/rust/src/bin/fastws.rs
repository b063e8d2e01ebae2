//! fastwebsockets on tokio current_thread with hyper's upgrade (its own echo example). fastws PORT echo|broadcast
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, Role, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::sync::{Arc, Mutex};
use tokio::{
    io::BufWriter,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

type Tx = mpsc::UnboundedSender<(OpCode, Bytes)>;
type Room = Arc<Mutex<slab::Slab<Tx>>>;

async fn echo(fut: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut ws = FragmentCollector::new(fut.await?);
    loop {
        let frame = ws.read_frame().await?;
        match frame.opcode {
            OpCode::Close => break,
            OpCode::Text | OpCode::Binary => ws.write_frame(frame).await?,
            _ => {}
        }
    }
    Ok(())
}

async fn bcast(up: hyper::upgrade::OnUpgrade, room: Room) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let parts = up.await?.downcast::<TokioIo<TcpStream>>().map_err(|_| "downcast")?;
    let (r, w) = parts.io.into_inner().into_split();
    let (mut rx, mut tx) =
        fastwebsockets::after_handshake_split(r, BufWriter::with_capacity(16 << 10, w), Role::Server);
    rx.set_auto_pong(false);
    let (send, mut recv): (Tx, _) = mpsc::unbounded_channel();
    let id = room.lock().unwrap().insert(send);
    tokio::task::spawn(tokio::task::unconstrained(async move {
        while let Some((op, m)) = recv.recv().await {
            let mut next = Some((op, m));
            while let Some((op, m)) = next {
                if tx.write_frame(Frame::new(true, op, None, Payload::Borrowed(&m))).await.is_err() {
                    return;
                }
                next = recv.try_recv().ok();
            }
            if tx.flush().await.is_err() {
                return;
            }
        }
    }));
    let room2 = room.clone();
    let r: Result<(), WebSocketError> = tokio::task::unconstrained(async move {
        loop {
            let f = rx.read_frame::<_, WebSocketError>(&mut |_| async { Ok(()) }).await?;
            match f.opcode {
                OpCode::Close => return Ok(()),
                OpCode::Text | OpCode::Binary => {
                    let b = match f.payload {
                        Payload::Bytes(b) => b.freeze(),
                        p => Bytes::copy_from_slice(&p),
                    };
                    for (_, t) in room2.lock().unwrap().iter() {
                        let _ = t.send((f.opcode, b.clone()));
                    }
                }
                _ => {}
            }
        }
    })
    .await;
    room.lock().unwrap().remove(id);
    r.map_err(|e| e.into())
}

async fn serve(mut req: Request<Incoming>, room: Option<Room>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    if let Some(room) = room {
        let on = hyper::upgrade::on(&mut req);
        let (response, _fut) = upgrade::upgrade(&mut req)?;
        tokio::task::spawn(async move {
            let _ = bcast(on, room).await;
        });
        return Ok(response);
    }
    let (response, fut) = upgrade::upgrade(&mut req)?;
    tokio::task::spawn(async move {
        let _ = tokio::task::unconstrained(echo(fut)).await;
    });
    Ok(response)
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let port: u16 = a[1].parse().unwrap();
    let room: Option<Room> = (a.get(2).map(|s| s.as_str()) == Some("broadcast")).then(Default::default);
    let rt = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    rt.block_on(async move {
        let s = tokio::net::TcpSocket::new_v4().unwrap();
        s.set_reuseaddr(true).unwrap();
        s.bind(([127, 0, 0, 1], port).into()).unwrap();
        let l: TcpListener = s.listen(4096).unwrap();
        eprintln!("listening on {port}");
        loop {
            let Ok((stream, _)) = l.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let room = room.clone();
            tokio::task::spawn(async move {
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(move |r| serve(r, room.clone())))
                    .with_upgrades()
                    .await;
            });
        }
    });
}
