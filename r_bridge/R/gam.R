# mgcv::gam and lme4::lmer as Python asks for them: everything that a fit has, and the fit itself, serialised.

gam_fit <- function(data, formula, method, select, gamma, weights, offset, sp, knots, tightly) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  data$.weights <- if (is.null(weights)) 1 else weights
  data$.offset <- if (is.null(offset)) 0 else offset
  arguments <- list(
    stats::as.formula(formula), data = data, method = method, select = select, gamma = gamma, sp = sp, knots = knots
  )
  # As names, so that predictions on other rows look them up and the call stays readable.
  if (!is.null(weights)) arguments$weights <- quote(.weights)
  if (!is.null(offset)) arguments$offset <- quote(.offset)
  if (tightly) arguments$control <- tight()
  fit <- do.call(mgcv::gam, arguments)
  told <- summary(fit)
  number <- function(x) if (is.null(x)) NULL else as.numeric(x)
  square <- function(x) if (is.null(x)) NULL else unname(as.matrix(x))
  list(
    names = names(stats::coef(fit)), coef = number(stats::coef(fit)), sp = number(fit$sp), sp_names = names(fit$sp),
    edf = number(fit$edf), edf1 = number(fit$edf1), edf2 = number(fit$edf2), vcov = square(fit$Vp),
    vcov_frequentist = square(fit$Ve), vcov_corrected = square(fit$Vc), score = number(fit$gcv.ubre),
    scale = number(fit$sig2), fitted = number(stats::fitted(fit)), residuals = number(stats::residuals(fit)),
    rows = rownames(stats::model.frame(fit)), deviance = number(stats::deviance(fit)),
    null_deviance = number(fit$null.deviance), deviance_explained = number(told$dev.expl), r_squared = number(told$r.sq),
    loglik = number(stats::logLik(fit)), loglik_df = number(attr(stats::logLik(fit), "df")),
    aic = number(stats::AIC(fit)), bic = number(stats::BIC(fit)), df_residual = number(fit$df.residual),
    converged = isTRUE(fit$converged),
    labels = as.character(c(attr(fit$pterms, "term.labels"), vapply(fit$smooth, function(s) s$label, ""))),
    parametric = told$p.table, terms = told$pTerms.table, smooth = told$s.table, fit = serialize(fit, NULL)
  )
}

gam_predict <- function(fit, data, type, se, exclude, unconditional) {
  fit <- unserialize(fit)
  if (!is.null(data)) {
    data$.weights <- 1
    data$.offset <- 0
  }
  arguments <- list(fit, type = type, se.fit = se, exclude = exclude, unconditional = unconditional)
  if (!is.null(data)) arguments <- c(arguments, list(newdata = data, newdata.guaranteed = FALSE))
  found <- do.call(stats::predict, arguments)
  plain <- function(x) if (is.matrix(x)) list(values = unname(x), names = colnames(x)) else list(values = as.numeric(x))
  list(
    fit = plain(if (se) found$fit else found), se = if (se) plain(found$se.fit),
    constant = as.numeric(attr(if (se) found$fit else found, "constant"))
  )
}

lmer_fit <- function(data, formula, REML) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  fit <- lme4::lmer(stats::as.formula(formula), data = data, REML = REML)
  variance <- as.data.frame(lme4::VarCorr(fit))
  effects <- lme4::ranef(fit, condVar = FALSE)
  list(
    names = names(lme4::fixef(fit)), coef = as.numeric(lme4::fixef(fit)), vcov = unname(as.matrix(stats::vcov(fit))),
    random = lapply(effects, function(x) list(values = unname(as.matrix(x)), rows = rownames(x), names = colnames(x))),
    group = variance$grp, first = variance$var1, second = variance$var2, covariance = variance$vcov,
    scale = stats::sigma(fit)^2, fitted = as.numeric(stats::fitted(fit)),
    residuals = as.numeric(stats::residuals(fit)), rows = rownames(stats::model.frame(fit)),
    loglik = as.numeric(stats::logLik(fit)), aic = stats::AIC(fit), bic = stats::BIC(fit),
    singular = lme4::isSingular(fit), fit = serialize(fit, NULL)
  )
}

lmer_predict <- function(fit, data, population) {
  fit <- unserialize(fit)
  as.numeric(stats::predict(fit, newdata = data, re.form = if (population) NA, allow.new.levels = TRUE))
}
