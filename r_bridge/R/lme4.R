# The mean of ComBat with random effects by lme4: one lmer() a feature.
#
# data, formula, batch, Y as in mgcv.R, the formula with bars; effects: the random effects as lme4 names them
# ("subject.(Intercept)"), in our order; REML: or the likelihood itself; sizes: columns of the fixed terms, to test
# them (tests.R).

lme4_mean <- function(data, formula, batch, Y, effects, REML, sizes) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  model <- mgcv_model(data, formula, batch)
  model$data$.y <- stats::rnorm(nrow(data))
  whole <- lme4::lFormula(model$formula, model$data, REML = REML)
  named <- paste(names(whole$reTrms$cnms), vapply(whole$reTrms$cnms, paste, "", collapse = " and "), sep = ".")
  if (!setequal(named, effects)) stop("lme4 has the random effects ", toString(named), ", we have ", toString(effects))
  Zt_of <- stats::setNames(whole$reTrms$Ztlist, named)
  # R's default stops at a relative deviance of 1e-6, which is 1e-4 of a residual sd in places.
  control <- lme4::lmerControl(
    optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12), calc.derivs = FALSE,
    check.conv.singular = "ignore"
  )
  fits <- lapply(seq_len(ncol(Y)), function(k) {
    model$data$.y <- Y[, k]
    fit <- lme4::lmer(model$formula, model$data, REML = REML, control = control, na.action = stats::na.omit)
    b <- split_effects(fit)
    list(
      fixed = lme4::fixef(fit, add.dropped = TRUE), theta = lme4::getME(fit, "theta")[effects],
      curves = lapply(effects, function(name) {
        Zt <- Zt_of[[name]][names(b[[name]]), , drop = FALSE]
        as.numeric(Matrix::crossprod(Zt, b[[name]]))
      }),
      edf = sum(stats::hatvalues(fit)) - length(lme4::fixef(fit)), score = -as.numeric(stats::logLik(fit)),
      # The likelihood itself has another residual variance, which R gives no test.
      tests = if (REML && length(sizes)) lmer_wald(fit, nlevels(batch), sizes)
    )
  })
  each <- function(part, size) matrix(vapply(fits, function(fit) fit[[part]], numeric(size)), size)
  list(
    X = whole$X, names = colnames(whole$X), coefficients = each("fixed", ncol(whole$X)),
    curves = lapply(seq_along(effects), function(j) vapply(fits, function(fit) fit$curves[[j]], numeric(nrow(data)))),
    # In mgcv's scale, where a penalty is as large as the largest column; a variance of nothing is as good as any penalty.
    log_sp = pmin(-2 * log(each("theta", length(effects)) * vapply(Zt_of[effects], function(Zt) max(abs(Zt)), 0)), 300),
    # hatvalues tells of all effects together.
    edf = if (length(effects) == 1) each("edf", 1), score = each("score", 1),
    tests = lapply(fits, function(fit) fit$tests)
  )
}

# The random effects of a fit, by effect and level.
split_effects <- function(fit) {
  Zt <- lme4::getME(fit, "Ztlist")
  ends <- cumsum(vapply(Zt, nrow, 0L))
  b <- as.numeric(lme4::getME(fit, "b"))
  Map(function(block, end) stats::setNames(b[end - nrow(block) + seq_len(nrow(block))], rownames(block)), Zt, ends)
}
