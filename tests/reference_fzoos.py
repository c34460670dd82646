"""Federated algorithms, slow and obvious, on the same random directions: for tests."""

import math

import numpy as np

from zoo.fzoos.directions import ALL, LOCAL, SHARED, SURVEY, generator, in_turn, orthonormal


class PlainAdam:
    """Kingma and Ba, algorithm 1."""

    def __init__(self, eta):
        self.eta, self.t, self.m, self.v = eta, 0, 0.0, 0.0

    def step(self, g):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return self.eta * m / (np.sqrt(v) + 1e-8)


def differences(f, x, u, h):
    """1/Q sum_q [f(x + h u_q) - f(x)] / h u_q, over the box."""
    slopes = [(f(np.clip(x + h * q, 0, 1)) - f(x)) / h for q in u]
    return sum(slope * q for slope, q in zip(slopes, u, strict=True)) / len(u)


def stepping(algorithm, functions, x, rounds, steps, count, h, eta, gamma, seed):
    """Iterates of fedzo, fedprox, scaffold1 and scaffold2, with the guard."""
    n, d = len(functions), len(x)

    def estimate(i, at, purpose, round, t):
        u = orthonormal(generator(seed, i, purpose, round, t), count, d)
        return differences(functions[i], at, u, h)

    def mean(at):
        return sum(f(at) for f in functions) / n

    control = [np.zeros(d)] * n
    if algorithm == "scaffold1":
        control = [estimate(i, x, SURVEY, 0, 0) for i in range(n)]
    iterates = [x]
    for round in range(1, rounds + 1):
        average = sum(control) / n
        ends, means = [], []
        for i in range(n):
            y, adam, total = x, PlainAdam(eta), np.zeros(d)
            for t in range(steps):
                g = estimate(i, y, LOCAL, round, t)
                total = total + g
                if algorithm == "fedprox":
                    g = g + gamma * (y - x)
                elif algorithm != "fedzo":
                    g = g + average - control[i]
                y = np.clip(y - adam.step(g), 0, 1)
            ends.append(y)
            means.append(total / steps)
        new = sum(ends) / n
        better = mean(new) < mean(x)
        if algorithm == "scaffold1" and better:
            control = [estimate(i, new, SURVEY, round, 0) for i in range(n)]
        elif algorithm == "scaffold2":
            control = means
        if better:
            x = new
        iterates.append(x)
    return iterates


def scalars(functions, x, rounds, steps, count, h, eta, seed, normal=False):
    """Iterates of DeComFL of a fixed step."""
    d, iterates = len(x), [x]
    for round in range(rounds):
        told = []
        for f in functions:
            y, mine = x, []
            for t in range(steps):
                random = generator(seed, ALL, SHARED, round, t)
                u = orthonormal(random, count, d)
                if normal:
                    random = generator(seed, ALL, SHARED, round, t)
                    u = random.standard_normal((count, d)) / math.sqrt(count)
                s = [(f(np.clip(y + h * q, 0, 1)) - f(y)) / h for q in u]
                y = np.clip(y - eta * sum(a * q for a, q in zip(s, u, strict=True)), 0, 1)
                mine.append((s, u))
            told.append(mine)
        for t in range(steps):
            s = np.mean([mine[t][0] for mine in told], 0)
            u = told[0][t][1]
            x = np.clip(x - eta * sum(a * q for a, q in zip(s, u, strict=True)), 0, 1)
        iterates.append(x)
    return iterates


def pooled(functions, x, rounds, steps, count, h, eta, seed):
    """Iterates of FedKSeed of a fixed step, all sums as vectors."""

    def inside(w):
        while ((w < 0) | (w > 1)).any():
            w = np.where(w < 0, -w, np.where(w > 1, 2 - w, w))
        return w

    d, clients = len(x), len(functions)
    pool = [generator(seed, ALL, SHARED, k).standard_normal(d) / math.sqrt(d) for k in range(count)]
    w, iterates = x, [x]
    for round in range(rounds):
        moves = []
        for i, f in enumerate(functions):
            y, random = w, generator(seed, i, LOCAL, round)
            for k in random.integers(count, size=steps):
                z = pool[k]
                s = (f(inside(y + h * z)) - f(inside(y - h * z))) / (2 * h)
                y = y - eta * s * z
            moves.append(y - w)
        w = w + sum(moves) / clients
        iterates.append(inside(w))
    return iterates


class PlainClient:
    """A client of FZooS: all that it has queried, and a Gaussian process over it."""

    def __init__(self, f, kernel, ell, noise, v, b):
        self.f, self.kernel, self.ell, self.noise, self.v, self.b = f, kernel, ell, noise, v, b
        self.x, self.y = [], []

    def query(self, points):
        for point in points:
            if not any(np.array_equal(point, known) for known in self.x):
                self.x.append(point)
                self.y.append(self.f(point))

    def solved(self, matrix):
        y = np.array(self.y)
        return np.linalg.solve(matrix + self.noise * np.eye(len(y)), y - y.mean())

    def gradient(self, x):
        """sum_a alpha_a dk(x, x_a)/dx."""
        at = np.array(self.x)
        r = np.linalg.norm(at[:, None] - at, axis=2) / self.ell
        away = at - x
        s = np.linalg.norm(away, axis=1) / self.ell
        if self.kernel == "se":
            k, slope = np.exp(-(r**2) / 2), np.exp(-(s**2) / 2)
        else:
            r, s = math.sqrt(5) * r, math.sqrt(5) * s
            k, slope = (1 + r + r**2 / 3) * np.exp(-r), 5 / 3 * (1 + s) * np.exp(-s)
        return (self.solved(k) * slope) @ away / self.ell**2

    def weights(self):
        """phi A^-1 y with the kernel that the features stand for."""
        angle = self.v @ np.array(self.x).T / self.ell + self.b[:, None]
        phi = math.sqrt(2 / len(self.b)) * np.cos(angle)
        return phi @ self.solved(phi.T @ phi)

    def along(self, x, weights):
        """Gradient of phi(x)'w."""
        sine = np.sin(self.v @ x / self.ell + self.b)
        return -math.sqrt(2 / len(self.b)) * ((weights * sine) @ self.v) / self.ell


def fzoos(clients, shares, x, rounds, steps, gamma, count, begin, seed, away, max_age):
    """Iterates of FZooS with shared surveys; ``away``: clients who are not there, by round."""
    d, n = len(x), len(clients)
    sent, values, iterates = {}, {}, []
    for round in range(rounds + 1):
        there = [i for i in range(n) if i not in away.get(round, ())]
        share = {i: shares[i] / sum(shares[j] for j in there) for i in there}
        old = x
        if round > 0:
            held = {i: w for i, (made, w) in sent.items() if made >= round - 1 - max_age}
            total = sum(shares[i] for i in held)
            mean = sum(shares[i] / total * w for i, w in held.items())
            new = x
            for i in there:
                y, adam = x, PlainAdam(0.01)
                clients[i].query([y])
                for t in range(1, steps + 1):
                    g = clients[i].gradient(y)
                    if i in held:
                        factor = 1 / t if gamma == "1/t" else gamma
                        g = g + factor * clients[i].along(y, mean - held[i])
                    y = np.clip(y - adam.step(g), 0, 1)
                    clients[i].query([y])
                new = new + share[i] * (y - x)
            new = np.clip(new, 0, 1)
        else:
            new = x
        random = generator(seed, ALL, SURVEY, round)
        if round == 0:
            points = new + 0.01 * random.uniform(-1, 1, (begin, d))
        else:
            half = max(np.abs(new - old).mean() / 2, 1e-4)
            u = in_turn(seed, count * (round - 1), count, d)
            lengths = random.uniform(0.3, 1, (count, 1))
            points = new + half * math.sqrt(d / 3) * lengths * u
        found = {}
        for i in there:
            clients[i].query([new])
            clients[i].query(np.clip(points, 0, 1))
            found[i] = clients[i].f(new)
            sent[i] = (round, clients[i].weights())
        same = found.keys() == values.keys()
        if not same or sum(shares[i] * (found[i] - values[i]) for i in there) < 0:
            x, values = new, found
        iterates.append(x)
    return iterates
