// How long to wait before something that failed is tried again.

export interface BackoffBounds {
  readonly minMs: number
  readonly maxMs: number
}

/** Milliseconds: doubles from `minMs`, where nothing has failed before (`failures` 0), up to `maxMs`. */
export function backoffMs(failures: number, { minMs, maxMs }: BackoffBounds): number {
  return Math.min(maxMs, minMs * 2 ** Math.min(failures, 30))
}

/** Between half and all of it, so that agents which lost one peer together do not come back together. `random`: in [0, 1). */
export function jittered(ms: number, random: () => number): number {
  // Half is fixed: a pause of nothing would make a busy loop of an error that comes at once.
  return ms / 2 + (ms / 2) * random()
}
