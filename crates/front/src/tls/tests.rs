//! TLS over real loopback sockets, with rustls as the client.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::certificate::{CERTIFICATE_FILE, KEY_FILE};
use super::*;

fn settings(folder: &Path, source: TlsSource) -> TlsSettings {
    TlsSettings { source, folder: folder.to_owned(), names: vec!["node.example".into()], protocols: vec![] }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// A client that trusts the certificate in `folder`, and shows it if `shows`.
fn client(folder: &Path, shows: bool) -> tokio_rustls::TlsConnector {
    let certificate = CertificateDer::from_pem_file(folder.join(CERTIFICATE_FILE)).expect("made");
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let config = if shows {
        let key = PrivateKeyDer::from_pem_file(folder.join(KEY_FILE)).expect("made");
        builder.with_client_auth_cert(vec![certificate], key).expect("its key")
    } else {
        builder.with_no_client_auth()
    };
    Arc::new(config).into()
}

/// Sends a line to a server that echoes it; what comes back.
async fn echo(acceptor: &TlsAcceptor, client: tokio_rustls::TlsConnector, name: &str) -> io::Result<String> {
    let (listener, address) = listener().await;
    let server = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        let Ok(stream) = acceptor.accept(stream).await else { return };
        assert!(stream.is_encrypted());
        let (mut reader, mut writer) = stream.into_split();
        let mut text = [0; 5];
        if reader.read_exact(&mut text).await.is_ok() {
            writer.write_all(&text).await.expect("the client reads");
            writer.flush().await.expect("the client reads");
        }
    };
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let client = async {
        let stream = TcpStream::connect(address).await?;
        let mut stream = client.connect(name, stream).await?;
        stream.write_all(b"hello").await?;
        let mut text = [0; 5];
        stream.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    tokio::join!(server, client).1
}

#[tokio::test]
async fn a_node_makes_a_certificate_that_clients_can_check() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let settings = settings(folder.path(), TlsSource::Automatic);
    let acceptor = TlsAcceptor::open(&settings).expect("made");
    for name in ["localhost", "127.0.0.1", "node.example"] {
        let echoed = echo(&acceptor, client(folder.path(), false), name).await;
        assert_eq!(echoed.expect("trusted"), "hello", "{name}");
    }
    assert!(echo(&acceptor, client(folder.path(), false), "other.example").await.is_err());
    let mode = std::fs::metadata(folder.path().join(KEY_FILE)).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_certificate_is_kept_until_the_node_has_another_name() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let read = || std::fs::read_to_string(folder.path().join(CERTIFICATE_FILE)).expect("made");
    let mut settings = settings(folder.path(), TlsSource::Automatic);
    TlsAcceptor::open(&settings).expect("made");
    let first = read();
    TlsAcceptor::open(&settings).expect("read");
    assert_eq!(read(), first);
    settings.names.push("10.0.0.7".into());
    let acceptor = TlsAcceptor::open(&settings).expect("made again");
    assert_ne!(read(), first);
    assert!(echo(&acceptor, client(folder.path(), false), "10.0.0.7").await.is_ok());
}

#[tokio::test]
async fn with_a_client_authority_only_its_clients_come_in() {
    let folder = tempfile::tempdir().expect("temporary folder");
    TlsAcceptor::open(&settings(folder.path(), TlsSource::Automatic)).expect("made");
    let file = |name: &str| folder.path().join(name);
    let source = TlsSource::Files {
        certificate: file(CERTIFICATE_FILE),
        key: file(KEY_FILE),
        client_ca: Some(file(CERTIFICATE_FILE)),
    };
    assert_eq!(source.to_string().parse(), Ok(source.clone()));
    let acceptor = TlsAcceptor::open(&settings(folder.path(), source)).expect("readable");
    assert!(echo(&acceptor, client(folder.path(), false), "localhost").await.is_err());
    assert_eq!(echo(&acceptor, client(folder.path(), true), "localhost").await.expect("known"), "hello");
}

#[tokio::test]
async fn a_key_that_others_may_read_and_files_without_pem_are_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    TlsAcceptor::open(&settings(folder.path(), TlsSource::Automatic)).expect("made");
    let key = folder.path().join(KEY_FILE);
    let files = |certificate: &str| TlsSource::Files {
        certificate: folder.path().join(certificate),
        key: key.clone(),
        client_ca: None,
    };
    let refused =
        |source| TlsAcceptor::open(&settings(folder.path(), source)).expect_err("unusable").to_string();
    assert!(refused(files("none.pem")).contains("none.pem"));
    assert!(refused(files(KEY_FILE)).contains("no certificate"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("ours");
    assert!(refused(files(CERTIFICATE_FILE)).contains("chmod 600"));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_shake_hands_is_cut_off() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let acceptor = TlsAcceptor::open(&settings(folder.path(), TlsSource::Automatic)).expect("made");
    let (listener, address) = listener().await;
    let (silent, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let began = tokio::time::Instant::now();
    let refused = acceptor.accept(accepted.expect("a connection").0).await.expect_err("silence");
    assert!(matches!(refused, HandshakeError::TooSlow), "{refused}");
    assert_eq!(began.elapsed(), HANDSHAKE_LIMIT);
    drop(silent);
    // Nonsense ends at once.
    let (stranger, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    stranger.expect("connected").write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    let refused = acceptor.accept(accepted.expect("a connection").0).await.expect_err("no TLS");
    assert!(matches!(refused, HandshakeError::Failed(_)), "{refused}");
}

#[tokio::test]
async fn the_command_line_trusts_what_it_is_given_and_nothing_else() {
    let (own, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let of = |folder: &Path| TlsAcceptor::open(&settings(folder, TlsSource::Automatic)).expect("made");
    let (acceptor, _) = (of(own.path()), of(other.path()));
    let cases = [(own.path(), None, true), (own.path(), Some("node.example"), true)];
    let cases = cases.into_iter().chain([
        (own.path(), Some("other.example"), false),
        (own.path(), Some("no name"), false),
        (other.path(), None, false),
    ]);
    for (trusted, name, lets_in) in cases {
        let (listener, address) = listener().await;
        let dialler = TlsDialler::open(&trusted.join(CERTIFICATE_FILE)).expect("a certificate");
        let client = async {
            let stream = TcpStream::connect(address).await.expect("it listens");
            dialler.dial(stream, name, address.ip()).await.is_ok()
        };
        let server = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            let _ = acceptor.accept(stream).await;
        };
        assert_eq!(tokio::join!(client, server).0, lets_in, "{trusted:?} {name:?}");
    }
    assert!(TlsDialler::open(&own.path().join(KEY_FILE)).is_err(), "a key is no certificate");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever the certificate's file holds is read or refused by name, and
    /// reading it changes neither file.
    #[test]
    fn a_damaged_certificate_is_refused_by_name(
        at in 0..400_usize,
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        whole in proptest::prelude::any::<bool>(),
    ) {
        let folder = tempfile::tempdir().expect("temporary folder");
        TlsAcceptor::open(&settings(folder.path(), TlsSource::Automatic)).expect("made");
        let (certificate, key) = (folder.path().join(CERTIFICATE_FILE), folder.path().join(KEY_FILE));
        let mut bytes = if whole { Vec::new() } else { std::fs::read(&certificate).expect("made") };
        bytes.splice(at.min(bytes.len())..(at + noise.len()).min(bytes.len()), noise);
        std::fs::write(&certificate, &bytes).expect("ours");
        let source = TlsSource::Files { certificate: certificate.clone(), key, client_ca: None };
        if let Err(refused) = TlsAcceptor::open(&settings(folder.path(), source)) {
            let refused = refused.to_string();
            proptest::prop_assert!(refused.contains("certificate"), "{refused}");
        }
        proptest::prop_assert_eq!(std::fs::read(&certificate).expect("ours"), bytes);
    }
}
