// What a task said, cut to what a person reads, and the last lines of a run.
import { existsSync, readFileSync } from 'node:fs'
import type { Task } from './tasks.ts'

export interface TaskResult {
  readonly task: Task
  readonly exitCode: number
  readonly passing: number
  readonly tookSeconds: number
  /** User and system, of all its processes that have ended. */
  readonly processorSeconds: number
  /** Files with a failure or with tests that did not run. Empty although the exit code is not 0: mocha itself ended early. */
  readonly failedFiles: readonly string[]
  /** Each failure in one line. */
  readonly failures: readonly string[]
  /** "12 passing, 34 s (5 s of processor time)" */
  readonly line: string
  /** The rest of the output. */
  readonly text: string
}

const LONGEST = 30
const LONG_SECONDS = 10
const LINE = 400

/** `list`: the file to which the reporter writes the paths of failed files. */
export function readOutput(
  task: Task,
  of: { readonly output: string; readonly tookMs: number; readonly exitCode: number; readonly list: string }
): TaskResult {
  const { output, exitCode, list } = of
  const passing = Number(/^ {2}(\d+) passing/m.exec(output)?.[1] ?? 0)
  const times = [...output.matchAll(/^(\d+)m([\d.]+)s (\d+)m([\d.]+)s$/gm)].at(-1) ?? []
  const [, userMinutes, user, systemMinutes, system] = times.map(Number)
  const processorSeconds = 60 * ((userMinutes ?? 0) + (systemMinutes ?? 0)) + (user ?? 0) + (system ?? 0)
  const failedFiles = existsSync(list)
    ? readFileSync(list, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
    : []
  const tookSeconds = of.tookMs / 1000
  return {
    task,
    exitCode,
    passing,
    tookSeconds,
    processorSeconds,
    failedFiles,
    failures: [...output.matchAll(/^ {2}failed: (.+)/gm)].map(([, text = '']) => text.slice(0, LINE)),
    line: `${passing} passing, ${Math.round(tookSeconds)} s (${Math.round(processorSeconds)} s of processor time)${
      exitCode === 0 ? '' : `, exit code ${exitCode}`
    }`,
    text: exitCode === 0 ? shortened(output) : output.trim()
  }
}

/** Without mocha's dots, counts and times, which `line` has. */
function shortened(output: string): string {
  return output
    .split('\n')
    .map((line) => line.replace(/^ {2}[.,!]+(?= |$)/, '').trimEnd())
    .filter(
      (line) =>
        !/^$|^ {2}\d+ passing|^\d+m[\d.]+s \d+m[\d.]+s$|^ {2}the longest files|^ +\d+ s +\d+ s {2}test\//.test(
          line
        )
    )
    .join('\n')
}

/** `again`: the results of the files that failed beside others, when each ran alone. */
export function summary(results: readonly TaskResult[], again: readonly TaskResult[]): readonly string[] {
  const sum = (of: (result: TaskResult) => number): number =>
    Math.round(results.reduce((total, each) => total + of(each), 0))
  const long = results
    .filter(({ tookSeconds }) => tookSeconds >= LONG_SECONDS)
    .toSorted((a, b) => b.processorSeconds - a.processorSeconds)
    .slice(0, LONGEST)
  const padded = (value: number): string => String(Math.round(value)).padStart(5)
  const failed = [...results, ...again].filter(({ exitCode }) => exitCode !== 0)
  const unsteady = again.filter(({ exitCode }) => exitCode === 0)
  return [
    'test: the longest, in processor time and in time:',
    ...long.map(
      ({ task, tookSeconds, processorSeconds }) =>
        `${padded(processorSeconds)} s ${padded(tookSeconds)} s  ${task.name}`
    ),
    `test: ${sum(({ passing }) => passing)} passing in ${results.length} tasks, ${sum((each) => each.processorSeconds)} s of processor time`,
    // A suite that this machine cannot run at all is named here, so that its silence is not taken for success.
    ...new Set(results.flatMap(({ text }) => text.match(/^ *LEFT OUT: .*$/gm) ?? [])),
    ...failed.flatMap(({ task, failures, exitCode }) =>
      failures.length === 0
        ? [`test: ${task.name} ended with exit code ${exitCode} and named no failure`]
        : failures.map((failure) => `test: failed: ${failure} (${task.name})`)
    ),
    ...unsteady.map(({ task }) => `test: failed beside other files and passed alone: ${task.name}`)
  ]
}
