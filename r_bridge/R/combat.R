# ComBat's batch model in base R: from a fitted mean to site effects, their shrinkage, and harmonized values.
#
# Written from the equations (Johnson, Li & Rabinovic 2007; Fortin et al. 2017) as a second, independent way to the
# numbers of pycombat_gam, for the mean models that no R package of ComBat fits. Conventions as in neuroCombat 1.0.14:
# grand mean weighted by batch size, pooled variance with 1/n, batch variance with 1/(n_b - 1), signed relative change.
# One observation in a batch tells nothing of its scale: such a feature has a location only, and no part in the priors
# there unless the batch is one subject.
#
# Y: rows x features; covariate_part: X beta, the same shape, without intercept; batch: factor;
# options: ref (label or NULL), mean_only, prior ("parametric", "nonparametric", "none").

batch_model <- function(Y, covariate_part, batch, options) {
  labels <- levels(batch)
  rows <- split(seq_len(nrow(Y)), batch)
  left <- Y - covariate_part
  by_batch <- function(f) {
    out <- t(sapply(rows, function(i) apply(left[i, , drop = FALSE], 2, f)))
    matrix(out, length(labels), ncol(Y), dimnames = list(labels, colnames(Y)))
  }
  location <- by_batch(function(x) mean(x, na.rm = TRUE))
  count <- by_batch(function(x) sum(!is.na(x)))
  squares <- by_batch(function(x) sum((x - mean(x, na.rm = TRUE))^2, na.rm = TRUE))
  if (is.null(options$ref)) {
    grand_mean <- colSums(location * lengths(rows)) / nrow(Y)
    var_pooled <- colSums(squares) / colSums(count)
  } else {
    grand_mean <- location[options$ref, ]
    var_pooled <- squares[options$ref, ] / count[options$ref, ]
  }
  sd <- sqrt(var_pooled)
  gamma_hat <- sweep(sweep(location, 2, grand_mean), 2, sd, "/")
  if (!is.null(options$ref)) gamma_hat[options$ref, ] <- 0
  delta_hat <- if (options$mean_only) 0 * gamma_hat + 1 else sweep(squares / (count - 1), 2, var_pooled, "/")
  delta_hat[count < 2] <- 1
  shrunken <- shrink(gamma_hat, delta_hat, count, options)
  gamma <- shrunken$gamma_star[batch, , drop = FALSE]
  delta <- shrunken$delta_star[batch, , drop = FALSE]
  center <- sweep(covariate_part, 2, grand_mean, "+")
  adjusted <- (Y - center - sweep(gamma, 2, sd, "*")) / sqrt(delta) + center
  dimnames(adjusted) <- dimnames(Y)
  if (!is.null(options$ref)) adjusted[batch == options$ref, ] <- Y[batch == options$ref, ]
  row <- function(x) matrix(x, 1, dimnames = list(NULL, colnames(Y)))
  list(
    harmonized = adjusted,
    estimates = c(
      list(grand_mean = row(grand_mean), var_pooled = row(var_pooled), gamma_hat = gamma_hat, delta_hat = delta_hat),
      shrunken
    )
  )
}

shrink <- function(gamma_hat, delta_hat, count, options) {
  labels <- rownames(gamma_hat)
  gamma_star <- gamma_hat
  delta_star <- delta_hat
  prior <- sapply(c("gamma_bar", "t2", "a_prior", "b_prior"), function(x) setNames(rep(NaN, length(labels)), labels))
  for (b in if (options$prior == "none") character() else setdiff(labels, options$ref)) {
    g <- gamma_hat[b, ]
    d <- delta_hat[b, ]
    n <- if (options$mean_only) rep(1, length(g)) else count[b, ]
    alone <- all(count[b, ] < 2)
    informs <- alone | count[b, ] > 1
    prior[b, c("gamma_bar", "t2")] <- c(mean(g[informs]), var(g[informs]))
    gamma_star[b, ] <- posterior_mean(g, prior[b, "gamma_bar"], n, 1, prior[b, "t2"])
    delta_star[b, ] <- 1
    if (alone && !options$mean_only) next
    g <- g[informs]
    d <- d[informs]
    if (!options$mean_only) {
      prior[b, "a_prior"] <- (2 * var(d) + mean(d)^2) / var(d)
      prior[b, "b_prior"] <- (mean(d) * var(d) + mean(d)^3) / var(d)
    }
    if (options$prior != "nonparametric" && options$mean_only) next
    found <- if (options$prior == "nonparametric") {
      posterior_over_atoms(g, d, count[b, informs])
    } else {
      posterior_by_iteration(g, d, n[informs], prior[b, ])
    }
    gamma_star[b, informs] <- found$g
    delta_star[b, informs] <- found$d
  }
  if (!is.null(options$ref)) delta_star[options$ref, ] <- 1
  list(gamma_star = gamma_star, delta_star = delta_star, priors = prior)
}

posterior_mean <- function(g_hat, g_bar, n, d, t2) (t2 * n * g_hat + d * g_bar) / (t2 * n + d)

posterior_by_iteration <- function(g_hat, d_hat, n, prior) {
  g <- g_hat
  d <- d_hat
  repeat {
    g_new <- posterior_mean(g_hat, prior[["gamma_bar"]], n, d, prior[["t2"]])
    ss <- (n - 1) * d_hat + n * (g_hat - g_new)^2
    d_new <- (ss / 2 + prior[["b_prior"]]) / (n / 2 + prior[["a_prior"]] - 1)
    change <- max(abs(g_new - g) / g, abs(d_new - d) / d, na.rm = TRUE)
    g <- g_new
    d <- d_new
    if (!change > 1e-4) return(list(g = g, d = d))
  }
}

posterior_over_atoms <- function(g_hat, d_hat, n) {
  out <- sapply(seq_along(g_hat), function(k) {
    ss <- (n[k] - 1) * d_hat[k] + n[k] * (g_hat[k] - g_hat[-k])^2
    log_weight <- -ss / (2 * d_hat[-k]) - n[k] / 2 * log(2 * pi * d_hat[-k])
    weight <- exp(log_weight - max(log_weight))
    c(sum(weight * g_hat[-k]), sum(weight * d_hat[-k])) / sum(weight)
  })
  list(g = out[1, ], d = out[2, ])
}
