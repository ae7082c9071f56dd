// One measured figure beside its baseline, from the same run on the same machine.

export interface Row {
  readonly name: string
  readonly value: number
  readonly unit: string
  /** What it is compared with; '' when the figure stands alone. */
  readonly baseline: string
  readonly baselineValue: number | undefined
  /** value / baselineValue. */
  readonly ratio: number | undefined
  /** In words: "≤ 0.1 of the baseline". '' when there is none. */
  readonly aim: string
  readonly held: boolean | undefined
}

/** A part of a bench that can fail without the others. */
export interface Step {
  readonly title: string
  readonly measure: () => Promise<readonly Row[]> | readonly Row[]
}

export interface Measured {
  readonly name: string
  readonly value: number
  readonly unit: string
  readonly baseline?: { readonly name: string; readonly value: number }
  readonly aim?: {
    readonly text: string
    readonly holds: (value: number, ratio: number | undefined) => boolean
  }
}

export function row({ name, value, unit, baseline, aim }: Measured): Row {
  const ratio = baseline === undefined || baseline.value === 0 ? undefined : value / baseline.value
  return {
    name,
    value,
    unit,
    baseline: baseline?.name ?? '',
    baselineValue: baseline?.value,
    ratio,
    aim: aim?.text ?? '',
    held: aim?.holds(value, ratio)
  }
}

/** Milliseconds of the middle one of `runs`; the first, cold one is thrown away when there are more than two. */
export async function medianMs(runs: number, act: (run: number) => Promise<unknown>): Promise<number> {
  const times: number[] = []
  for (let run = 0; run < runs; run++) {
    const started = performance.now()
    await act(run)
    times.push(performance.now() - started)
  }
  const counted = (runs > 2 ? times.slice(1) : times).sort((a, b) => a - b)
  return counted[Math.floor((counted.length - 1) / 2)] ?? 0
}
