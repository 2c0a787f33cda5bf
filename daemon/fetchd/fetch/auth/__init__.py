"""How requests are authorised."""

from fetchd.fetch.auth.kinds import KINDS, ApiKeyAuth, BasicAuth, BearerAuth, DigestAuth, OAuth2Auth, basic

__all__ = ["KINDS", "ApiKeyAuth", "BasicAuth", "BearerAuth", "DigestAuth", "OAuth2Auth", "basic"]
