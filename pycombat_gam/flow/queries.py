"""The queries of a structural causal model: counterfactuals, their intervals, three steps, samples, probabilities."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, OptionError, PcgWarning
from pycombat_gam.flow.extrapolation import of_action, of_harmonized, of_rows, warn_of
from pycombat_gam.flow.fitted import Fitted, Interval
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism
from pycombat_gam.flow.model.scm import Coded, StructuralModel
from pycombat_gam.flow.moves import ToSite, UnderAction
from pycombat_gam.flow.nodes.graph import FEATURES
from pycombat_gam.formula import parse_formula
from pycombat_gam.tables.arguments import check_level
from pycombat_gam.tables.cells import check_cells, suspicious_features
from pycombat_gam.tables.estimator import TableEstimator
from pycombat_gam.tables.intake import Intake, find_column, put_back
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import Remedy, Worded, count, listing

ADAPT = Remedy("adapt", "add a site with adapt(its rows), which gives a new model")


class Queries(TableEstimator):
    """The queries that a fitted `FlowSCM` answers."""

    ref_batch: object

    @property
    @abstractmethod
    def fitted(self) -> Fitted:
        """Return the fitted quantities; refuse an unfitted model."""

    def _features(self) -> tuple[str, ...]:
        return self.fitted.model.frame.features

    def _taken(self, X: pd.DataFrame | np.ndarray, covariates: object, fitted: Fitted) -> Intake:
        """Read and check rows for a fitted model."""
        taken = self._intake(X, covariates, parse_formula(self.formula).variables, fitted.model.frame.features)
        check_cells(taken.Y, suspicious_features(taken.Y), taken.features, omit_missing=False, may_omit=False)
        return taken

    def _rows(self, X: pd.DataFrame | np.ndarray, covariates: object) -> tuple[Fitted, Intake, IntArray]:
        """Read rows of known sites; return the fit, the rows, and their sites' codes."""
        fitted = self.fitted
        taken = self._taken(X, covariates, fitted)
        levels = fitted.model.levels
        codes, unseen = levels.codes(find_column(taken.covariates, self.batch, "batch"))
        if unseen:
            raise DataError(
                Worded(
                    f"site {listing(unseen)} was not in the fit, which knows {listing(levels.labels, 30)}: ",
                    levels.advice(unseen, ADAPT),
                )
            )
        return fitted, taken, codes

    def counterfactual(
        self, X: pd.DataFrame | np.ndarray, covariates: object = None, *, do: Mapping[str, object]
    ) -> pd.DataFrame:
        """Return what the rows would have been under an action, such as ``do={"site": "NYU", "age": 30}``.

        A value is one for all rows, or one for each row. The table returned holds the columns acted on and the
        covariates that are their effects in the graph; all else stays as observed. Values that no row of the fit
        supports, at their site or at any, are extrapolated, with a warning that names them.
        """
        acted = self._acted(X, covariates, do)
        warn_of(acted.notes)
        taken, Y = acted.taken, acted.features()
        features = pd.DataFrame(Y, index=acted.covariates.index, columns=list(taken.features))
        if taken.frame is None:
            return pd.concat([acted.covariates, features], axis=1)
        out = pd.DataFrame(put_back(taken, Y))
        if taken.frame is taken.covariates:
            return out.assign(**{name: acted.covariates[name] for name in acted.moved})
        return pd.concat([acted.covariates, out], axis=1)

    def _acted(
        self, X: pd.DataFrame | np.ndarray, covariates: object, do: Mapping[str, object], to: object = None
    ) -> UnderAction:
        """Read rows, and set them under an action; `to` is a site for all of them, if the action names none."""
        fitted, taken, codes = self._rows(X, covariates)
        model, table = fitted.model, taken.covariates
        action = model.graph.check_do(do, len(table), table.index)
        if to is not None:
            self._check_agreement(action, to, fitted)
            action = model.graph.check_do({**do, self.batch: to}, len(table), table.index)
        coded = model.code(table, codes)
        changed = model.act(coded, action)
        effects = model.graph.descendants(list(action))
        moved = [*action, *effects]
        values = model.decode(changed, table.index)
        under = table.assign(**{str(name): values[name] for name in moved})
        site = np.asarray(changed[self.batch], dtype=np.intp)
        notes = [*of_rows(fitted, table, codes), *of_action(fitted, changed, moved, coded)]
        before, after = model.parents(table, codes), model.parents(under, site)
        return UnderAction(fitted, taken, under, moved, effects, before, after, notes)

    def _check_agreement(self, action: Coded, to: object, fitted: Fitted) -> None:
        """Stop if an action sends rows to other sites than `to`."""
        levels = fitted.model.levels
        target = levels.index(to, "to")
        if self.batch not in action or (action[self.batch] == target).all():
            return
        elsewhere = np.asarray(action[self.batch], dtype=np.intp)
        elsewhere = elsewhere[elsewhere != target]
        sites = listing([levels.labels[code] for code in np.unique(elsewhere)])
        raise OptionError(
            f"to={to!r} and do contradict each other: do sends {count(len(elsewhere), 'row')} to {sites}; "
            "name the site in one of them"
        )

    def interval(
        self,
        X: pd.DataFrame | np.ndarray,
        covariates: object = None,
        *,
        to: object = None,
        do: Mapping[str, object] | None = None,
        level: float = 0.95,
    ) -> Interval:
        """Say how uncertain each harmonized or counterfactual value is: every member of the ensemble gives its own.

        Each member abducts the noise of the rows, and predicts them at the target or under the action, by its own maps
        and its own effects of covariates on features. The interval is value ± t sd: the model's own value, as
        `transform` or `counterfactual` gives it, and the members' standard deviation.

        Parameters
        ----------
        to : object
            Site to harmonize to, as in `transform`.
        do : dict or None
            An action, as in `counterfactual`, for intervals of its values. Rows whose site neither `do` nor `to` names
            stay at their own.
        level : float
            Coverage of the intervals.

        Raises
        ------
        OptionError
            If there is no ensemble (``n_members`` of at least 2), the level is outside (0, 1), or `to` and `do` send
            rows to different sites.

        Notes
        -----
        By bootstrap the members differ as posterior draws do: in rows, reweighted within sites, and in priors
        (`flow.training.ensemble`). Their weights are spread so that the variance of a site's mean is unbiased, whatever
        degrees of freedom the fit took from the site. By seed they differ in the start of training only.

        The interval takes as known the form of the site maps (the variant), the smoothing parameters, the variances of
        the prior, and effects of covariates on covariates, with a warning if the action has such. A wrong form is not
        covered. Intervals are too short where few small sites hardly share their covariates: the variances of the prior
        are then underestimated. Coverage by simulation: `benchmarks/README.md`.
        """
        members = self._members(level)
        move = self._harmonized(X, covariates, to) if do is None else self._acted(X, covariates, do, to)
        notes, columns = list(move.notes), None
        if isinstance(move, UnderAction):
            columns = move.covariates[move.moved]
            if move.effects:
                notes.append(f"effects on {listing(move.effects)} are taken as known: no interval covers their error")
        value, each = move.features(), np.stack([move.features(member) for member in members])
        warn_of(notes)
        taken = move.taken
        interval = Interval.of(value, each, taken.covariates.index, taken.features, level, columns)
        if (value != taken.Y).any() and not interval.sd.any(axis=None):
            warnings.warn(
                "all members of the ensemble agree exactly: the intervals have no width", PcgWarning, stacklevel=2
            )
        return interval

    def _members(self, level: float) -> tuple[FeatureMechanism, ...]:
        """Return the members of the ensemble, for intervals of a level."""
        members = self.fitted.model.members
        if len(members) < 2:
            raise OptionError("interval needs an ensemble: fit with n_members=20, for example")
        check_level(level)
        return members

    def _harmonized(self, X: pd.DataFrame | np.ndarray, covariates: object, to: object) -> ToSite:
        """Read rows, and send them to a site, or to the average over sites."""
        fitted, taken, codes = self._rows(X, covariates)
        target, table = self._target(fitted, to), taken.covariates
        notes = of_harmonized(fitted, table, codes, target)
        return ToSite(fitted, taken, fitted.model.parents(table, codes), target, notes)

    def _target(self, fitted: Fitted, to: object) -> int | None:
        """Return the code of the target site; None for the average."""
        if to is not None:
            return fitted.model.levels.index(to, "to")
        return None if self.ref_batch is None else fitted.model.levels.index(self.ref_batch)

    def abduct(self, X: pd.DataFrame | np.ndarray, covariates: object = None) -> pd.DataFrame:
        """Return the noise of every node and feature, (n × (nodes + V)).

        A discrete node's noise is uniform and known up to the interval of its level; the middle of the interval is
        returned. A feature that is not modelled (a constant) is its own noise.
        """
        fitted, taken, codes = self._rows(X, covariates)
        model, table = fitted.model, taken.covariates
        noise = model.abduct_covariates(model.code(table, codes))
        features = model.abduct(taken.Y, model.parents(table, codes))
        warn_of(of_rows(fitted, table, codes))
        return pd.concat(
            [
                pd.DataFrame(noise, index=table.index),
                pd.DataFrame(features, index=table.index, columns=list(taken.features)),
            ],
            axis=1,
        )

    def predict(self, noise: pd.DataFrame, *, do: Mapping[str, object] | None = None) -> pd.DataFrame:
        """Return nodes and features of a noise, as `abduct` returns it, under an action: covariates, then features.

        Without an action this returns the rows of which the noise was abducted.
        """
        fitted = self.fitted
        model = fitted.model
        wanted = [*model.graph.nodes, *model.frame.features]
        absent = [name for name in wanted if name not in noise.columns]
        if absent:
            raise DataError(f"the noise lacks {listing(absent)}: give a table as abduct returns it")
        text = [name for name in wanted if not pd.api.types.is_numeric_dtype(noise[name].dtype)]
        if text:
            raise DataError(f"the noise holds no numbers in {listing(text)}: give a table as abduct returns it")
        values = noise[wanted].astype(np.float64)
        if not np.isfinite(values.to_numpy()).all():
            raise DataError("the noise has missing or infinite cells: give a table as abduct returns it")
        action = model.graph.check_do(do or {}, len(noise), noise.index)
        coded = model.predict_covariates({name: values[name].to_numpy() for name in model.graph.nodes}, action)
        warn_of(of_action(fitted, coded, [*action, *model.graph.descendants(list(action))]))
        return _table(model, coded, values[list(model.frame.features)].to_numpy(), noise.index)

    def sample(self, n: int, *, do: Mapping[str, object] | None = None, seed: int = 0) -> pd.DataFrame:
        """Draw n rows from the model, optionally under an action: covariates, then features."""
        fitted = self.fitted
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise OptionError(f"sample({n!r}): give a whole number of rows, at least 1")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise OptionError(f"seed={seed!r}: give a whole number, at least 0")
        model = fitted.model
        streams = np.random.SeedSequence(seed).spawn(2)
        action = model.graph.check_do(do or {}, n)
        coded = model.draw_covariates(n, action, int(streams[0].generate_state(1, np.uint64)[0] >> 1))
        warn_of(of_action(fitted, coded, [*action, *model.graph.descendants(list(action))]))
        noise = np.empty((n, len(model.frame.features)))
        noise[:, ~model.frame.modelled] = model.frame.idle
        noise[:, model.frame.modelled] = model.features.draw(n, np.random.default_rng(streams[1])).cpu().numpy()
        return _table(model, coded, noise, pd.RangeIndex(n))

    def log_prob(
        self, X: pd.DataFrame | np.ndarray, covariates: object = None, *, by: str | None = None
    ) -> pd.Series | pd.DataFrame:
        """Return log p of each row, in the columns' units: a density for numbers, a probability for levels.

        ``by="node"`` returns a DataFrame, with a column per node and ``features``; otherwise their sum, the joint.
        """
        if by not in (None, "node"):
            raise OptionError(f"by={by!r}: allowed are None and 'node'")
        fitted, taken, codes = self._rows(X, covariates)
        model, table = fitted.model, taken.covariates
        each = pd.DataFrame(model.log_prob_covariates(model.code(table, codes)), index=table.index)
        each[FEATURES] = model.log_prob(taken.Y, model.parents(table, codes))
        warn_of(of_rows(fitted, table, codes))
        return each if by == "node" else each.sum(axis=1).rename("log_prob")

    def outliers(self, X: pd.DataFrame | np.ndarray, covariates: object = None, *, share: float = 0.01) -> pd.DataFrame:
        """Return the rows whose features are as improbable as the lowest `share` of the fit's rows, worst first.

        Returns
        -------
        DataFrame
            The site, `log_prob` (of the features given their parents), `below` (share of the fit's rows at most as
            probable), and the feature with the largest noise, with that noise.
        """
        if isinstance(share, bool) or not isinstance(share, int | float | np.number) or not 0 < share < 1:
            raise OptionError(f"share={share!r}: give a number between 0 and 1, such as 0.01")
        fitted, taken, codes = self._rows(X, covariates)
        model, table = fitted.model, taken.covariates
        parents = model.parents(table, codes)
        log_prob = model.log_prob(taken.Y, parents)
        warn_of(of_rows(fitted, table, codes))
        below = fitted.reference.below(log_prob)
        rows = np.flatnonzero(below <= share)
        rows = rows[np.argsort(log_prob[rows], kind="stable")]
        noise = model.abduct(taken.Y, parents)[np.ix_(rows, np.flatnonzero(model.frame.modelled))]
        worst = np.abs(noise).argmax(axis=1) if len(rows) else np.zeros(0, dtype=np.intp)
        modelled = np.array(model.frame.features, dtype=object)[model.frame.modelled]
        return pd.DataFrame(
            {
                self.batch: np.array(model.levels.labels, dtype=object)[codes[rows]],
                "log_prob": log_prob[rows],
                "below": below[rows],
                "feature": modelled[worst],
                "noise": noise[np.arange(len(rows)), worst],
            },
            index=table.index[rows],
        )


def _table(model: StructuralModel, coded: Coded, noise: FloatArray, index: pd.Index) -> pd.DataFrame:
    """Return nodes, and the features that a noise (n, V) gives with them as parents."""
    nodes = model.decode(coded, index)
    site = np.asarray(coded[model.graph.batch], dtype=np.intp)
    features = model.predict(noise, model.parents(nodes, site))
    return pd.concat([nodes, pd.DataFrame(features, index=index, columns=list(model.frame.features))], axis=1)
