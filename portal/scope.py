"""Every row of a team is read through its team: `Model.objects.of(team)`."""

from typing import TYPE_CHECKING, TypeVar

from django.db import models

if TYPE_CHECKING:  # its own models are read this way, too
    from portal.accounts.models import Team

M = TypeVar("M", bound=models.Model)


class TeamManager(models.Manager[M]):
    """A manager whose first word is the team. A test holds that no page uses any other way in."""

    def of(self, team: "Team") -> models.QuerySet[M]:
        return self.get_queryset().filter(team=team)
