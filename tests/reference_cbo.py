"""Consensus-based optimization as a slow and obvious NumPy program, from the papers' formulas.

Random numbers come from numpy.random.Philox by the engine's published keys and counters, so whole
trajectories can be compared, and nothing else is shared with the engine.
"""

import numpy as np

INITIAL, NOISE, MEMORY_NOISE, KICK, BATCH = range(5)


def words(seed, stream, purpose, iteration, particle, count):
    counter = (int(particle) << 64) | (iteration << 128) | (purpose << 192)
    bits = np.random.Philox(key=seed | (stream << 64), counter=(counter - 1) % 2**256)
    return bits.random_raw(count)


def unit(word):
    return (np.right_shift(word, np.uint64(12)).astype(float) + 0.5) / 2**52


def normals(seed, stream, purpose, iteration, particle, d):
    w = words(seed, stream, purpose, iteration, particle, (d + 3) // 4 * 4)
    a, b = w[0::2], w[1::2]
    radius = np.sqrt(-2.0 * np.log(unit(a)))
    turn = unit(b) - 0.5 - 0.5 / 2**52
    sign = np.where(b & np.uint64(1), -1.0, 1.0)
    out = np.empty(len(w))
    out[0::2] = radius * np.cos(np.pi * turn) * sign
    out[1::2] = radius * np.sin(np.pi * turn)
    return out[:d]


def uniforms(seed, stream, purpose, iteration, particle, d):
    return unit(words(seed, stream, purpose, iteration, particle, (d + 3) // 4 * 4))[:d]


def permutation(seed, stream, epoch, first, n):
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        counter = i | (first << 64) | (epoch << 128) | (BATCH << 192)
        bits = np.random.Philox(key=seed | (stream << 64), counter=(counter - 1) % 2**256)
        j = (int(bits.random_raw()) * (i + 1)) >> 64
        order[i], order[j] = order[j], order[i]
    return np.array(order)


def weights(energy, alpha):
    finite = np.isfinite(energy)
    w = np.zeros(len(energy))
    w[finite] = np.exp(-alpha * (energy[finite] - energy[finite].min()))
    return w


def effective(energy, alpha):
    w = weights(energy, alpha)
    return w.sum() ** 2 / (w**2).sum()


class Reference:
    """One run; ``c`` is an instance of CBOConfig."""

    def __init__(self, f, lower, upper, c, seed, stream=0):
        c = c.resolved(len(lower), float(np.mean(np.array(upper) - lower)))
        self.f, self.lower, self.upper, self.c = f, np.array(lower), np.array(upper), c
        self.seed, self.stream = seed, stream
        self.n, self.d = c.particles, len(lower)
        self.alpha, self.sigma, self.dt = c.alpha, c.sigma, c.dt
        self.step, self.evaluations, self.kick = 0, 0, False
        self.best, self.kicked, self.improved, self.spread0 = np.inf, 0, 0, None
        self.x = np.array([self.first(i) for i in range(self.n)])
        self.energy = np.full(self.n, np.inf)
        self.y, self.y_energy = self.x.copy(), np.full(self.n, np.inf)
        self.consensus = None
        self.evaluate(self.batch(0))
        self.close(self.batch(0))

    def first(self, i):
        if self.c.init == "normal":
            mean = 0.5 * (self.lower + self.upper)
            std = self.c.init_std or 0.25 * (self.upper - self.lower)
            x = mean + std * normals(self.seed, self.stream, INITIAL, 0, i, self.d)
        else:
            u = uniforms(self.seed, self.stream, INITIAL, 0, i, self.d)
            x = self.lower + (self.upper - self.lower) * u
        return x if self.c.boundary == "none" else np.clip(x, self.lower, self.upper)

    def batch(self, step):
        m = self.c.batch
        if m in (0, self.n):
            return np.arange(self.n)
        per_epoch = self.n // m
        order = permutation(self.seed, self.stream, step // per_epoch, 0, self.n)
        return order[step % per_epoch * m :][:m]

    def evaluate(self, members):
        for i in members:
            e = self.f(self.x[i])
            self.energy[i] = e if np.isfinite(e) else np.inf
            if self.energy[i] < self.best:
                self.best, self.best_x, self.improved = e, self.x[i].copy(), self.step
            if self.energy[i] < self.y_energy[i]:
                self.y[i], self.y_energy[i] = self.x[i], self.energy[i]
        self.evaluations += len(members)

    def close(self, members):
        x, e = (self.y, self.y_energy) if self.c.memory else (self.x, self.energy)
        x, e = x[members], e[members]
        w = weights(e, self.alpha)
        last, self.consensus = self.consensus, w @ x / w.sum()
        origin = self.consensus if last is None or self.c.covariance_about == "new" else last
        self.covariance = (w[:, None] * (x - origin)).T @ (x - origin) / w.sum()
        self.carriers = e

    def noise(self, i, purpose):
        return normals(self.seed, self.stream, purpose, self.step + 1, i, self.d)

    def superstep(self):
        c = self.c
        point = self.consensus
        if c.gate != "none":
            at = self.f(point)
            self.evaluations += 1
            if at < self.best:
                self.best, self.best_x, self.improved = at, point.copy(), self.step + 1
        x, new, squares = self.x.copy(), self.x.copy(), 0.0
        movers = np.arange(self.n) if c.batch_moves == "all" else self.batch(self.step)
        for i in movers:
            if c.dynamics == "polarized":
                distance = ((x - x[i]) ** 2).sum(1) / (2 * c.kappa**2)
                distance *= self.alpha if c.kernel_scaling == "alpha" else 1.0
                exponent = self.alpha * (self.energy - self.energy.min()) + distance
                w = np.exp(exponent.min() - exponent)
                point = w @ x / w.sum()
            d, xi = x[i] - point, self.noise(i, NOISE)
            gate = 1.0
            if c.gate == "heaviside":
                gate = float(self.energy[i] >= at)
            elif c.gate == "smooth":
                gate = 0.5 * (1 + np.tanh((self.energy[i] - at) / c.gate_eps))
            s = self.sigma * np.sqrt(self.dt)
            if c.dynamics == "hopping":
                new[i] = point + self.sigma * xi
                d = new[i] - point
            elif c.noise == "covariance" or c.dynamics == "sampling":
                beta = np.exp(-c.lam * self.dt)
                factor = np.linalg.cholesky(self.covariance)
                new[i] = x[i] - gate * (1 - beta) * d
                new[i] += self.sigma * np.sqrt(1 - beta**2) * factor @ xi
            elif c.noise == "isotropic":
                length = min(np.linalg.norm(d), c.truncation)
                new[i] = x[i] - gate * c.lam * self.dt * d + s * length * xi
            else:
                cut = np.clip(d, -c.truncation, c.truncation)
                new[i] = x[i] - gate * c.lam * self.dt * d + s * cut * xi
            squares += (d**2).sum()
            if c.memory:
                away, xi2 = x[i] - self.y[i], self.noise(i, MEMORY_NOISE)
                length = np.linalg.norm(away) if c.noise == "isotropic" else away
                new[i] += -c.lam_memory * self.dt * away
                new[i] += c.sigma_memory * np.sqrt(self.dt) * length * xi2
            if self.kick:
                width = self.upper - self.lower
                new[i] += c.kick_sigma * np.sqrt(self.dt) * width * self.noise(i, KICK)
            if c.boundary == "reflect":
                below, above = new[i] < self.lower, new[i] > self.upper
                new[i] = np.where(below, 2 * self.lower - new[i], new[i])
                new[i] = np.where(above, 2 * self.upper - new[i], new[i])
            if c.boundary != "none":
                new[i] = np.clip(new[i], self.lower, self.upper)
        self.x = new
        measured = self.step % 8 == 0
        if measured:
            self.spread = np.sqrt(squares / (len(movers) * self.d))
            self.spread0 = self.spread0 or self.spread
        self.step += 1
        members = self.batch(self.step)
        self.evaluate(members)
        self.close(members)
        if c.alpha_schedule == "multiply":
            self.alpha = min(self.alpha * c.alpha_factor, c.alpha_max)
        self.sigma = max(self.sigma * c.sigma_factor, c.sigma_min)
        self.dt = max(self.dt * c.dt_factor, c.dt_min)
        self.kick = False
        if c.kick_sigma > 0:
            stale = self.step - max(self.improved, self.kicked) >= c.kick_patience > 0
            if (measured and self.spread <= c.kick_spread * self.spread0) or stale:
                self.kick, self.kicked = True, self.step
