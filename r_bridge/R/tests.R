# Tests of every term beside those of ComBat.test(weights = NULL, variance = "pooled"): rows are terms, those of the
# formula before its smooths; columns are features.
#
# study: as in agreement.R, with sizes (columns of each term but the smooths) and weights (of the sites).

engine_lm <- function(study) {
  tests_of(study, "test", function(model, own) {
    fit <- stats::lm(model$formula, model$data, na.action = stats::na.omit)
    wald(stats::coef(fit)[own], stats::vcov(fit)[own, own, drop = FALSE], stats::df.residual(fit), study$sizes)
  })
}

# The variances of the sites are known up to one factor: our weights.
engine_gls <- function(study) {
  tests_of(study, "weighted test", function(model, own) {
    # Columns of all rows: gls() would find those of poly() without the rows of missing cells.
    model$data$.X <- model$X
    model$data$.v <- 1 / study$weights[study$batch]
    fit <- nlme::gls(
      .y ~ .X - 1, model$data[c(".y", ".X", ".v")], weights = nlme::varFixed(~.v), na.action = stats::na.omit
    )
    df <- fit$dims$N - fit$dims$p
    wald(stats::coef(fit)[own], stats::vcov(fit)[own, own, drop = FALSE], df, study$sizes)
  })
}

tests_of <- function(study, name, fit_one) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  model <- mgcv_model(study$data, study$fixed, study$batch)
  model$X <- stats::model.matrix(model$formula, model$data)
  own <- -seq_len(nlevels(study$batch))
  named_tests(name, lapply(seq_len(ncol(study$Y)), function(k) {
    model$data$.y <- study$Y[, k]
    fit_one(model, own)
  }))
}

# beta, V: estimates and their covariance, the columns of the terms one after the other; df: residual, of all or of each.
wald <- function(beta, V, df, sizes) {
  last <- cumsum(sizes)
  rows <- lapply(seq_along(sizes), function(j) {
    i <- last[j] - sizes[j] + seq_len(sizes[j])
    se <- sqrt(diag(V)[i])
    nu <- rep_len(df, length(sizes))[j]
    if (length(i) == 1) return(c(beta[i], se, beta[i] / se, nu, 2 * stats::pt(-abs(beta[i] / se), nu)))
    z <- beta[i] / se
    f <- sum(z * solve(V[i, i] / outer(se, se), z)) / length(i)
    c(NaN, NaN, f, nu, stats::pf(f, length(i), nu, lower.tail = FALSE))
  })
  matrix(as.numeric(unlist(rows)), 5)
}

# The tests of a gam: mgcv's own of the smooths.
gam_wald <- function(fit, before, sizes) {
  summed <- summary(fit)
  own <- before + seq_len(sum(sizes))
  linear <- wald(stats::coef(fit)[own], fit$Vp[own, own, drop = FALSE], summed$residual.df, sizes)
  smooths <- apply(summed$s.table, 1, function(row) c(NaN, NaN, row[["F"]], summed$residual.df, row[["p-value"]]))
  cbind(linear, smooths)
}

# The tests of a mixed model, with Fai and Cornelius' degrees of freedom, of one contrast Kenward and Roger's: from the
# expected REML information of the variances. Z'PZ of the random effects is all that it takes, P = S - SX(X'SX)^X'S.
lmer_wald <- function(fit, before, sizes) {
  X <- as.matrix(lme4::getME(fit, "X"))
  Zt <- lme4::getME(fit, "Ztlist")
  V <- as.matrix(stats::vcov(fit))
  theta <- lme4::getME(fit, "theta")
  # S = (I - A'A) / sigma^2, with L L' = I + Lambda'Z'Z Lambda and A = L^-1 Lambda'Z'.
  scaled <- do.call(rbind, Map(function(t, block) t * block, theta, Zt))
  A <- solve(t(chol(as.matrix(Matrix::tcrossprod(scaled)) + diag(nrow(scaled)))), as.matrix(scaled))
  S <- function(M) as.matrix(M - crossprod(A, A %*% M)) / stats::sigma(fit)^2
  SX <- S(X)
  SZ <- lapply(Zt, function(block) S(as.matrix(Matrix::t(block))))
  PZ <- lapply(SZ, function(s) s - SX %*% (V %*% crossprod(X, s)))
  ZPZ <- lapply(Zt, function(block) lapply(PZ, function(p) as.matrix(block %*% p)))
  m <- length(Zt)
  information <- matrix(0, m + 1, m + 1)
  for (a in seq_len(m)) for (b in seq_len(m)) information[a, b] <- sum(ZPZ[[a]][[b]]^2) / 2
  # With the residual variance: of all variances, scaled by themselves, the sum is that of the whole; tr(PVPK) = tr(PK).
  variances <- stats::sigma(fit)^2 * c(theta^2, 1)
  whole <- vapply(seq_len(m), function(a) sum(diag(ZPZ[[a]][[a]])), 0) / 2
  of_residual <- (whole - drop(information[seq_len(m), seq_len(m), drop = FALSE] %*% variances[seq_len(m)])) /
    variances[m + 1]
  information[m + 1, seq_len(m)] <- information[seq_len(m), m + 1] <- of_residual
  free <- nrow(X) - ncol(X)
  information[m + 1, m + 1] <- (free / 2 - sum(variances[seq_len(m)] * whole) -
    sum(variances[seq_len(m)] * of_residual) * variances[m + 1]) / variances[m + 1]^2
  inverse <- solve(information)
  slopes <- lapply(Zt, function(block) crossprod(as.matrix(block %*% (SX %*% V))))
  slopes <- c(slopes, list(crossprod(SX %*% V)))
  nu_of <- function(l) {
    g <- vapply(slopes, function(D) drop(l %*% D %*% l), 0)
    2 * drop(l %*% V %*% l)^2 / drop(g %*% inverse %*% g)
  }
  last <- before + cumsum(sizes)
  df <- vapply(seq_along(sizes), function(j) {
    i <- last[j] - sizes[j] + seq_len(sizes[j])
    directions <- matrix(0, length(i), ncol(X))
    directions[, i] <- t(eigen(V[i, i, drop = FALSE])$vectors)
    nu <- apply(directions, 1, nu_of)
    if (length(nu) == 1) return(nu)
    if (any(nu <= 2)) return(2)
    2 * sum(nu / (nu - 2)) / (sum(nu / (nu - 2)) - length(nu))
  }, 0)
  own <- before + seq_len(sum(sizes))
  wald(lme4::fixef(fit)[own], V[own, own, drop = FALSE], df, sizes)
}

# A list of terms x features from one matrix, quantities x terms, a feature.
named_tests <- function(name, each) {
  quantities <- c("estimate", "se", "statistic", "residual df", "p")
  out <- lapply(seq_along(quantities), function(i) {
    matrix(vapply(each, function(x) x[i, ], numeric(ncol(each[[1]]))), ncol = length(each))
  })
  stats::setNames(out, paste(name, quantities))
}
