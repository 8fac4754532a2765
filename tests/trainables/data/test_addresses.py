"""Secrets in addresses are found, whatever parsers make of them, and never repeated; options stay last."""

import pytest

from trainables.data.addresses import below, secret_in


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("s3://AKIA:SECRET@bucket/folder", "a password before the @"),
        ("s3://AKIA:SEC/RET+x@bucket/folder", "a password before the @"),  # no URL parser sees this one
        ("S3://AKIA:SEC%2FRET@bucket", "a password before the @"),
        ("postgresql://me:SECRET@host/db", "a password before the @"),
        ("postgresql+psycopg2://me:SEC@RET@host/db", "a password before the @"),
        ("sqlite+pysqlcipher://:SECRET@/m.db", "a password before the @"),
        ("redis://:SECRET@host", "a password before the @"),
        ("https://SECRET@host:5000", "a user or token before the @"),
        ("postgresql://host/db?user=me&password=SECRET", "the parameter password"),
        ("mysql://host/db?passwd=SECRET", "the parameter passwd"),
        ("s3://bucket/x?secret_key=SECRET&access_key=AKIA", "the parameter secret_key"),
        ("s3://bucket/x?region=eu&X-Amz-Signature=SECRET", "the parameter X-Amz-Signature"),
        ("abfs://container/x?sig=SECRET", "the parameter sig"),
        ("https://host/x?token=SECRET", "the parameter token"),
        ("gs://bucket/x?access_token=SECRET#bedroom", "the parameter access_token"),
        ("postgresql://me:SEC?RET@host/db", "a password before the @"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Dme%3BPWD%3DSECRET", "the parameter PWD"),
        ("jdbc:sqlserver://host;user=me;password=SECRET", "the parameter password"),
        ("https://host/x#access_token=SECRET", "the parameter access_token"),
        ("https://host/x?a=1;token=SECRET", "the parameter token"),
        ("https://host/x?auth=SECRET", "the parameter auth"),
    ],
)
def test_secrets_are_found_and_not_repeated(address, what):
    assert secret_in(address) == what


@pytest.mark.parametrize(
    "address",
    [
        "faces",
        "/data/a:b@c/faces",
        "file:///data/a:b@c",
        "10.0.0.1:6379",
        "ray://10.0.0.1:10001",
        "s3://bucket/folder",
        "s3://bucket/a@b",
        "s3://bucket/x?region=eu-west-1&scheme=http&endpoint_override=localhost:9000",
        "gs://bucket/x#64-3",
        "http://127.0.0.1:5000",
        "http://[::1]:5000",
        "sqlite:///mlflow.db",
        "sqlite:////home/a:b@c/m.db?timeout=60",
        "postgresql://me@host/db",
        "postgresql://host/db?passfile=/home/me/.pgpass&sslkey=/home/me/key.pem",
        "mysql://host/db?password=",
        "s3://bucket/x?endpoint_override=localhost:9000&owner=me@here",
        "http://host:5000/a:b?owner=me@here",
    ],
)
def test_addresses_without_a_secret_pass(address):
    assert secret_in(address) is None


def test_a_bucket_s_options_stay_behind_what_is_below_it():
    minio = "s3://bucket/x/?endpoint_override=minio:9000&scheme=http"
    assert below(minio, "mine") == "s3://bucket/x/mine?endpoint_override=minio:9000&scheme=http"
    assert below("gs://bucket", "mine") == "gs://bucket/mine"
