from django.contrib import admin
from django.urls import include, path

from engines.models import Engine
from portal.accounts.access import PUBLIC, TABLE

# The peer's own checks apply; the door would not know its address.
TABLE["engines_engine_changelist"] = {"GET": PUBLIC}


@admin.register(Engine)
class EngineAdmin(admin.ModelAdmin):
    list_display = ["name", "hostname", "status", "workers_busy", "workers_total", "version", "gpu", "cloud",
                    "observed_at", "changed_at", "uid"]  # fmt: skip
    list_filter = ["status", "version", "cloud"]
    search_fields = ["name", "hostname"]
    list_per_page = 100


urlpatterns = [path("admin/", admin.site.urls), path("", include("portal.urls"))]
