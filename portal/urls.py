"""The portal's addresses. Who may reach which is in `portal/accounts/access.py`."""

from allauth.account.views import login, logout, reauthenticate
from allauth.mfa.base import views as mfa
from allauth.mfa.webauthn import views as webauthn
from django.urls import include, path
from django.views.generic import RedirectView

from portal import health, reports
from portal.accounts import account, inviting, joining
from portal.accounts import views as accounts
from portal.accounts.factors import required
from portal.accounts.factors import views as factors
from portal.accounts.passwords import ChangePassword
from portal.accounts.sso import views as sso
from portal.audit import views as audit
from portal.audit.export import export
from portal.live import views as live

handler400 = "portal.errors.bad_request"
handler429 = "portal.errors.too_many"  # allauth's, for sign-in
handler500 = "portal.errors.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="engines"), name="home"),
    path("accounts/", account.account, name="account"),
    path("accounts/sessions/<int:number>/end/", account.end_session, name="session-end"),
    path("accounts/sessions/end-others/", account.end_other_sessions, name="sessions-end-others"),
    path("accounts/login/", login, name="account_login"),
    path("accounts/logout/", logout, name="account_logout"),
    path("accounts/password/", ChangePassword.as_view(), name="account_change_password"),
    path("accounts/confirm/", reauthenticate, name="account_reauthenticate"),
    path("accounts/confirm/done/", account.confirmed, name="confirmed"),
    path("accounts/confirm/code/", mfa.reauthenticate, name="mfa_reauthenticate"),
    path("accounts/confirm/passkey/", webauthn.reauthenticate_webauthn, name="mfa_reauthenticate_webauthn"),
    path("accounts/login/factor/", mfa.authenticate, name="mfa_authenticate"),
    path("accounts/login/passkey/", webauthn.login_webauthn, name="mfa_login_webauthn"),
    path("accounts/login/sso/", sso.sign_in, name="sso"),
    path("accounts/login/sso/back/", sso.callback, name="sso-callback"),
    path("accounts/confirm/sso/", sso.confirm, name="sso-confirm"),
    path("accounts/sso/link/", sso.link, name="sso-link"),
    path("accounts/sso/<int:number>/unlink/", sso.unlink, name="sso-unlink"),
    path("accounts/second-factor/", required.choose, name="second-factor"),
    path("accounts/app/add/", factors.activate_app, name="mfa_activate_totp"),
    path("accounts/app/remove/", factors.deactivate_app, name="mfa_deactivate_totp"),
    path("accounts/passkeys/add/", factors.add_passkey, name="passkey-add"),
    path("accounts/passkeys/<int:number>/remove/", factors.remove_passkey, name="passkey-remove"),
    path("accounts/recovery-codes/", factors.recovery_codes, name="mfa_view_recovery_codes"),
    path("accounts/recovery-codes/new/", factors.new_recovery_codes, name="recovery-codes-new"),
    path("team/", accounts.team, name="team"),
    path("team/switch/", accounts.switch, name="team-switch"),
    path("team/invite/", inviting.invite, name="invite"),
    path("team/invitations/<int:invitation>/resend/", inviting.resend, name="invitation-resend"),
    path("team/invitations/<int:invitation>/revoke/", inviting.revoke, name="invitation-revoke"),
    path("join/<str:token>/", joining.join, name="join"),
    path("team/members/<int:member>/", accounts.member, name="member"),
    path("team/members/<int:member>/role/", accounts.change_role, name="member-role"),
    path("team/members/<int:member>/remove/", accounts.remove, name="member-remove"),
    path("audit/", audit.log, name="audit"),
    path("audit/<int:number>/", audit.entry, name="audit-entry"),
    path("audit/export/", export, name="audit-export"),
    path("audit/filters/", audit.save, name="audit-filter-save"),
    path("audit/filters/<int:number>/delete/", audit.forget, name="audit-filter-forget"),
    path("live/", live.stream, name="live"),
    path("csp-report", reports.content_policy, name="csp-report"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("", include("engines.urls")),
]
