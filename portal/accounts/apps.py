from django.apps import AppConfig, apps


class AccountsConfig(AppConfig):
    name = "portal.accounts"

    def ready(self) -> None:
        if not apps.is_installed("allauth.account"):  # nobody signs in at the API
            return
        from allauth.account.signals import authentication_step_completed
        from allauth.mfa.models import Authenticator
        from allauth.mfa.signals import authentication_failed, authenticator_used
        from django.contrib.auth.signals import user_logged_in
        from django.db.models.signals import post_delete, post_save

        from portal.accounts import lifetime, sessions
        from portal.accounts.factors import audit

        user_logged_in.connect(lifetime.begin_at_sign_in)
        authentication_step_completed.connect(lifetime.rotate_if_confirmed)
        authentication_step_completed.connect(sessions.confirmed)
        post_save.connect(audit.saved, sender=Authenticator)
        post_delete.connect(audit.deleted, sender=Authenticator)
        authenticator_used.connect(audit.used)
        authentication_failed.connect(audit.refused)
