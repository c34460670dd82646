"""Federated algorithms, slow and obvious, on the same random directions: for tests."""

import math

import numpy as np

from zoo.fzoos.directions import ALL, LOCAL, SHARED, SURVEY, generator, orthonormal


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
        if algorithm == "scaffold1":
            control = [estimate(i, new, SURVEY, round, 0) for i in range(n)]
        elif algorithm == "scaffold2":
            control = means
        if mean(new) < mean(x):
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
