//! The engines that Trine knows: what they are made of, and how programs
//! connect. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An engine of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Dask distributed.
    Dask,
    /// Ray.
    Ray,
    /// Apache Spark, standalone.
    Spark,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dask => "dask",
            Self::Ray => "ray",
            Self::Spark => "spark",
        })
    }
}

impl Kind {
    /// The package of Python that it is in.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Dask => "distributed",
            Self::Ray => "ray",
            Self::Spark => "pyspark",
        }
    }

    /// Its scheduler's port, unless another one is given. The engines' own
    /// defaults, but for Ray's, which is that of Redis.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Dask => 8786,
            Self::Ray => 6385,
            Self::Spark => 7077,
        }
    }

    /// How programs name a scheduler at `address`.
    #[must_use]
    pub fn url(self, address: &str) -> String {
        match self {
            Self::Dask => format!("tls://{address}"),
            Self::Ray => address.to_owned(),
            Self::Spark => format!("spark://{address}"),
        }
    }

    /// What tells programs where it is, and what proves that they may use it:
    /// variables of their environment. `folder` is where the credentials are.
    #[must_use]
    pub fn environment(self, url: &str, folder: &str, secret: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::Dask => vec![
                ("DASK_SCHEDULER_ADDRESS", url.to_owned()),
                ("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", format!("{folder}/certificate.pem")),
                ("DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT", format!("{folder}/certificate.pem")),
                ("DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY", format!("{folder}/key.pem")),
            ],
            Self::Ray => vec![
                ("RAY_ADDRESS", url.to_owned()),
                ("RAY_AUTH_MODE", "token".to_owned()),
                ("RAY_AUTH_TOKEN", secret.to_owned()),
            ],
            Self::Spark => vec![("MASTER", url.to_owned()), ("_SPARK_AUTH_SECRET", secret.to_owned())],
        }
    }

    /// What to do next, for people.
    #[must_use]
    pub fn advice(self, url: &str, environment: &str) -> String {
        let program = match self {
            Self::Dask => "from distributed import Client; client = Client()".to_owned(),
            Self::Ray => "import ray; ray.init()".to_owned(),
            Self::Spark => format!(
                "SparkSession.builder.master(\"{url}\").config(\"spark.authenticate\", \"true\").getOrCreate()"
            ),
        };
        format!("In a shell with the variables of `. {environment}`, in Python:\n  {program}")
    }
}
