"""A single sign-on provider: OpenID Connect's code flow with PKCE over real HTTP. Stands in for one that a team has."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "engines-portal", "known to the two"


class IdentityProvider:
    """Knows one `person`, who has just shown who they are. `claims` changes what their id tokens say."""

    def __init__(self):
        self.person = {"sub": "248289761001", "email": "olga@acme.example", "email_verified": True, "name": "Olga"}
        self.claims = {}
        self.asked_anew = True  # tells when it asked the person
        self.called = None  # what it calls itself, if not by its address
        self.silent = False  # gives no id token
        self.algorithm = "RS256"
        self.key = self.published = RSAKey.generate_key(2048, {"kid": "first", "alg": "RS256", "use": "sig"})
        self.codes = {}
        self.asked = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/realms/acme"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def set_up(self, settings):
        """Have the portal know of it."""
        settings.OIDC_SERVER_URL, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = self.url, CLIENT, SECRET
        settings.OIDC_NAME = "Acme ID"

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(20)

    def visit(self, url):
        """Follow the portal there as a browser would; return the path and query that it sends the browser back to."""
        answer = httpx.get(url, trust_env=False)
        back = urlsplit(answer.headers["Location"])
        return f"{back.path}?{back.query}"

    def _authorize(self, query):
        self.asked.append(query)
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def _token(self, form, header):
        asked = self.codes.pop(form.get("code"), None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=")
        known = header == "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if asked is None or not known or proof.decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        given = {"access_token": secrets.token_urlsafe(8), "token_type": "Bearer", "expires_in": 60}
        return 200, given if self.silent else given | {"id_token": self._id_token(asked)}

    def _id_token(self, asked):
        at = int(time.time())
        claims = {"iss": self.called or self.url, "aud": CLIENT, "iat": at, "exp": at + 60, "nonce": asked["nonce"]}
        claims |= self.person | ({"auth_time": at} if self.asked_anew else {})
        if self.algorithm == "RS256":
            return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims | self.claims, self.key)
        return self._forged({"alg": self.algorithm, "kid": self.key.kid}, claims | self.claims)

    def _forged(self, header, claims):
        """A token by somebody who knows no secret: with an empty signature, or one made with the public key."""
        signed = b".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)
        )
        proof = hmac.digest(self.published.as_pem(private=False), signed, "sha256") if header["alg"] == "HS256" else b""
        return f"{signed.decode()}.{base64.urlsafe_b64encode(proof).rstrip(b'=').decode()}"

    def _documents(self):
        keys = {"keys": [self.published.as_dict(private=False)]}
        own = {"issuer": self.called or self.url, "jwks_uri": f"{self.url}/keys"}
        own |= {"authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token"}
        own |= {"id_token_signing_alg_values_supported": ["RS256"]}
        return {"/realms/acme/.well-known/openid-configuration": own, "/realms/acme/keys": keys}

    def _handler(self):
        provider = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):  # the base class calls it so
                asked = urlsplit(self.path)
                if asked.path == "/realms/acme/authorize":
                    self.send_response(302)
                    query = {name: values[0] for name, values in parse_qs(asked.query).items()}
                    self.send_header("Location", provider._authorize(query))
                    self.end_headers()
                    return
                found = provider._documents().get(asked.path)
                self._say(*((200, found) if found else (404, {})))

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                self._say(*provider._token(form, self.headers.get("Authorization")))

            def _say(self, status, document):
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Answer
