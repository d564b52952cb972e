# How well predictions do, by R: pROC, metafor and survival.

roc_delong <- function(events, score, level) {
  fit <- pROC::roc(events, score, levels = c(FALSE, TRUE), direction = "<", quiet = TRUE)
  # pROC has no variance where a class has one row, and warns that a perfect curve has none.
  several <- min(table(events)) > 1
  bounds <- if (several) suppressWarnings(pROC::ci.auc(fit, conf.level = level, method = "delong"))
  variance <- if (several) suppressWarnings(pROC::var(fit, method = "delong")) else NaN
  list(
    value = as.numeric(fit$auc), variance = variance,
    lower = if (several) bounds[1] else NaN, upper = if (several) bounds[3] else NaN
  )
}

# most: where the search for tau2 ends, or NULL for metafor's own.
rma_pool <- function(estimate, variance, method, test, level, prediction, tol, most = NULL) {
  fit <- metafor::rma(
    yi = estimate, vi = variance, method = method, test = test, level = 100 * level,
    control = c(list(tol = tol, threshold = tol, maxiter = 10000), if (!is.null(most)) list(tau2.max = most))
  )
  at <- metafor::predict.rma(fit, pi.type = prediction)
  list(
    estimate = as.numeric(fit$beta), se = fit$se, tau2 = fit$tau2, sites = fit$k, lower = fit$ci.lb, upper = fit$ci.ub,
    new_lower = at$pi.lb, new_upper = at$pi.ub
  )
}

survfit_at <- function(time, event, at) {
  fit <- survival::survfit(survival::Surv(time, event) ~ 1)
  # Sorted by summary, and put back.
  shown <- summary(fit, times = sort(at), extend = TRUE)
  back <- rank(at, ties.method = "first")
  list(survival = shown$surv[back], se = shown$std.err[back], at_risk = shown$n.risk[back])
}

# What R gives for predictions at sites left out, by quantity: sites x columns, or of metafor measures x columns.
#
# study: kind ("classes", "number", "survival"), plain (whether classes have no taxonomy), batch (factor of sites), features (labels of the columns), score
# (predictions, rows x the first columns), Y (an event of the column's class, or the number; the same shape), state (of
# features: one label of each column of `score`; classes have a last column for each, which takes all its classes),
# time, event, at (a horizon of each column), measures, scales ("identity", "logit" or "log" of each), value, variance
# (ours of each site on that scale; sites of the first measure, then of the second, ...).

run_measures <- function(engine, study) {
  switch(engine,
    pROC = with_existence(by_site(study, c("AUC", "AUC variance"), auc_at), c("AUC", "AUC variance")),
    "stats (glm)" = with_existence(by_site(study, of_line, glm_at), of_line[c(1, 3)]),
    "stats (lm)" = with_existence(by_site(study, of_line, lm_at), of_line),
    "stats (mean)" = if (study$kind == "number") by_site(study, of_errors, errors_at) else means_of_classes(study),
    survival = with_existence(by_site(study, of_risk, risk_at), "observed risk"),
    metafor = pooled(study),
    stop("no such engine: ", engine)
  )
}

of_line <- c(
  "calibration intercept", "se of calibration intercept", "calibration slope", "se of calibration slope"
)
of_risk <- c(
  "observed risk", "se of observed risk", "lower end of observed risk", "upper end of observed risk", "O/E"
)
of_errors <- c("mean absolute error", "se of mean absolute error", "mean error", "se of mean error", "RMSE", "R squared")

# at: what a function of outcome, prediction, and the row numbers and column besides gives at one site.
by_site <- function(study, names, at) {
  sites <- levels(study$batch)
  empty <- matrix(NaN, length(sites), length(study$features))
  out <- stats::setNames(rep(list(empty), length(names)), names)
  for (k in seq_along(sites)) {
    rows <- which(study$batch == sites[k])
    for (j in seq_len(ncol(study$score))) {
      values <- at(study, rows, j)
      for (i in seq_along(names)) out[[i]][k, j] <- values[i]
    }
  }
  out
}

# Whether a site has the measure, as 1 or 0: where ours does not exist it is not compared, and R's may.
with_existence <- function(found, names) {
  c(found, stats::setNames(lapply(found[names], function(x) 1 * is.finite(x)), paste(names, "exists")))
}

auc_at <- function(study, rows, j) {
  events <- study$Y[rows, j] == 1
  if (all(events) || !any(events)) return(c(NaN, NaN))
  found <- roc_delong(events, study$score[rows, j], 0.95)
  c(found$value, found$variance)
}

# Van Calster et al. (2019): the intercept with logit p as offset, and the slope on it.
glm_at <- function(study, rows, j) {
  y <- study$Y[rows, j]
  # Ends as ours: the logit of 0 and 1 is infinite.
  lp <- stats::qlogis(pmin(pmax(study$score[rows, j], 1e-12), 1 - 1e-12))
  if (length(unique(y)) < 2) return(rep(NaN, 4))
  control <- stats::glm.control(epsilon = 1e-15, maxit = 200)
  of <- function(formula, row, start = NULL) {
    # It warns of probabilities of 0 and 1, and of a deviance that rounding keeps from 1e-15.
    fit <- function(start) suppressWarnings(stats::glm(formula, stats::binomial(), start = start, control = control))
    # Once more from there: standard errors are those of the step before the last.
    unname(summary(fit(stats::coef(fit(start))))$coefficients[row, 1:2])
  }
  # Beside predictions of 0 and 1 its own start diverges.
  ends <- stats::qlogis(mean(y)) - range(lp) + c(1, -1)
  near <- stats::uniroot(function(a) sum(stats::plogis(a + lp)) - sum(y), sort(ends), tol = 0.01)$root
  # The other class counts where it is the less likely: glm's 1 - mu has few digits near mu = 1.
  side <- ifelse(lp + near > 0, -1, 1)
  rare <- ifelse(side < 0, 1 - y, y)
  # Without overlap of the classes the slope is infinite, and glm ends anywhere (Albert & Anderson 1984).
  events <- range(lp[y == 1])
  others <- range(lp[y == 0])
  finite <- varies(lp) && events[2] > others[1] && others[2] > events[1]
  c(of(rare ~ 0 + side + offset(side * lp), 1, near), if (finite) of(y ~ lp, 2) else c(NaN, NaN))
}

lm_at <- function(study, rows, j) {
  y <- study$Y[rows, j]
  m <- study$score[rows, j]
  if (!varies(m)) return(rep(NaN, 4))
  # Predictions that hardly vary are no column of their own to lm at its usual tolerance. It warns of a perfect fit.
  found <- suppressWarnings(summary(stats::lm(y ~ m, tol = 1e-12))$coefficients)
  c(found[1, 1:2], found[2, 1:2])
}

varies <- function(x) diff(range(x)) > 1e-9 * max(abs(x))

errors_at <- function(study, rows, j) {
  y <- study$Y[rows, j]
  error <- study$score[rows, j] - y
  se <- function(x) if (length(x) > 1) stats::sd(x) / sqrt(length(x)) else NaN
  explained <- if (varies(y)) 1 - sum(error^2) / sum((y - mean(y))^2) else NaN
  c(mean(abs(error)), se(abs(error)), mean(error), se(error), sqrt(mean(error^2)), explained)
}

means_of_classes <- function(study) {
  sites <- levels(study$batch)
  oe_at <- function(study, rows, j) {
    observed <- sum(study$Y[rows, j])
    n <- length(rows)
    ratio <- observed / sum(study$score[rows, j])
    c(ratio, if (observed > 0 && observed < n) ratio * sqrt((1 - observed / n) / observed) else NaN)
  }
  out <- by_site(study, c("O/E", "se of O/E"), oe_at)
  if (!study$plain) return(out)
  names <- c("accuracy", "top-3 accuracy", "Brier score", "se of Brier score")
  out[names] <- rep(list(out[[1]] * NaN), length(names))
  states <- unique(study$state)
  for (s in seq_along(states)) for (k in seq_along(sites)) {
    rows <- study$batch == sites[k]
    of <- study$state == states[s]
    P <- study$score[rows, of, drop = FALSE]
    Y <- study$Y[rows, of, drop = FALSE]
    # Of two classes the event alone is sent.
    both <- if (ncol(P) == 1) cbind(1 - P, P) else P
    true <- if (ncol(P) == 1) Y[, 1] + 1 else max.col(Y)
    place <- vapply(seq_along(true), function(i) rank(-both[i, ], ties.method = "first")[true[i]], 1)
    square <- rowSums((P - Y)^2)
    se <- if (length(square) > 1) stats::sd(square) / sqrt(length(square)) else NaN
    values <- c(mean(place == 1), mean(place <= 3), mean(square), se)
    for (i in seq_along(names)) out[[names[i]]][k, ncol(study$score) + s] <- values[i]
  }
  out
}

risk_at <- function(study, rows, j) {
  # Intervals are normal on the logit scale.
  fit <- survival::survfit(survival::Surv(study$time[rows], study$event[rows]) ~ 1, conf.type = "logit")
  found <- summary(fit, times = study$at[j], extend = TRUE)
  # Beyond the follow-up the risk is unknown, unless all had the event.
  if (found$n.risk == 0 && found$surv > 0) return(rep(NaN, 5))
  risk <- 1 - found$surv
  c(risk, found$std.err, 1 - found$upper, 1 - found$lower, risk / mean(study$score[rows, j]))
}

# metafor's random effects of our numbers of each site; estimates and intervals as they are reported.
pooled <- function(study) {
  names <- c(
    "pooled estimate", "pooled se", "pooled tau2", "pooled lower", "pooled upper", "new site lower", "new site upper",
    "sites pooled"
  )
  empty <- matrix(NaN, length(study$measures), length(study$features))
  out <- stats::setNames(rep(list(empty), length(names)), names)
  K <- nlevels(study$batch)
  for (m in seq_along(study$measures)) for (j in seq_along(study$features)) {
    at <- (m - 1) * K + seq_len(K)
    found <- pool_one(study$value[at, j], study$variance[at, j], study$scales[m])
    for (i in seq_along(names)) out[[i]][m, j] <- found[i]
  }
  out
}

pool_one <- function(y, v, scale) {
  used <- is.finite(y) & is.finite(v) & v > 0
  y <- y[used]
  v <- v[used]
  back <- switch(scale, logit = stats::plogis, log = exp, identity)
  if (length(y) < 2) return(c(if (length(y)) back(y) else NaN, rep(NaN, 6), length(y)))
  # metafor's tolerance is absolute: in units of the precise sites it is small enough. No root is above the variance.
  unit <- sqrt(1 / mean(1 / v))
  fit <- rma_pool(y / unit, v / unit^2, "PM", "knha", 0.95, "default", 1e-14, most = 1 + 2 * stats::var(y) / unit^2)
  ends <- back(unit * c(fit$estimate, fit$lower, fit$upper, fit$new_lower, fit$new_upper))
  c(ends[1], unit * fit$se, unit^2 * fit$tau2, ends[2:5], fit$sites)
}
