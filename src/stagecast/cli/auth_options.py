"""Who may reach and call a server, as options of `stagecast serve`."""

from __future__ import annotations

from stagecast.cli.options import DEFAULTS, FILE, setting, together

auth_options = together(
    setting(
        "--jwt-key",
        metavar="FILE",
        type=FILE,
        help="Also take tokens (JWT) that are signed with this: a secret of 32 bytes or more "
        "(HS256), or a public key in PEM, of RSA (RS256) or P-256 (ES256).",
    ),
    setting(
        "--jwt-audience",
        metavar="TEXT",
        default=DEFAULTS.jwt_audience,
        show_default=True,
        help="What the claim 'aud' of tokens has to name.",
    ),
    setting(
        "--tls-cert",
        metavar="FILE",
        type=FILE,
        help="Serve gRPC and HTTP with TLS: the certificate, and those that lead to its root, in "
        "PEM.",
    ),
    setting(
        "--tls-key",
        metavar="FILE",
        type=FILE,
        help="The private key of the certificate, in PEM, without a password.",
    ),
    setting(
        "--tls-client-ca",
        metavar="FILE",
        type=FILE,
        help="Let only clients connect that have a certificate signed by one of these, in PEM. "
        "What they may do is still a matter of keys.",
    ),
    setting(
        "--insecure",
        is_flag=True,
        help="Serve an address that others can reach although there is no key: whoever reaches it "
        "may do everything, until the first key is made.",
    ),
)
