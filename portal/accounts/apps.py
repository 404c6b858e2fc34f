from django.apps import AppConfig, apps


class AccountsConfig(AppConfig):
    name = "portal.accounts"

    def ready(self) -> None:
        if not apps.is_installed("allauth.account"):  # nobody signs in at the API
            return
        from allauth.account.signals import authentication_step_completed
        from django.contrib.auth.signals import user_logged_in

        from portal.accounts import lifetime

        user_logged_in.connect(lifetime.begin_at_sign_in)
        authentication_step_completed.connect(lifetime.rotate_if_confirmed)
