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

rma_pool <- function(estimate, variance, method, test, level, prediction, tol) {
  fit <- metafor::rma(
    yi = estimate, vi = variance, method = method, test = test, level = 100 * level,
    control = list(tol = tol, threshold = tol, maxiter = 10000)
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
