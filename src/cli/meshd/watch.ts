// `--watch` of peers, routes, services and status: the same view again and again until Ctrl-C. On a terminal each frame
// is drawn over the one before; elsewhere the views follow one another, and with --json each is one line, so that a
// program can read them as a stream. meshd is asked anew for each frame, because the admin API has no notifications.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Answer } from '../../api/answers.ts'
import { parseInterval } from './arguments.ts'
import { formatData, isData, print, type Context, type Rendered } from './context.ts'
import { describeError } from '../output/failure.ts'
import { cleanDeep } from '../output/text.ts'

/** The option as commander parses it, for the options of a command with --watch. */
export interface WatchOption {
  /** Seconds between two frames. `true`: the flag has no value, so 2 s. undefined: the view is shown once. */
  readonly watch?: number | true
}

/** One view of a command: `fetch` asks meshd for the answer, `render` turns it into text for people. */
interface View<T extends Answer> {
  readonly fetch: (signal?: AbortSignal) => Promise<T>
  readonly render: (answer: T) => Rendered
}

/** Adds -w, --watch to a command. */
export function addWatch(command: Command): Command {
  return command.option(
    '-w, --watch [seconds]',
    'show the view again every <seconds>, 2 by default, until Ctrl-C',
    parseInterval
  )
}

/**
 * Shows a view once, or with --watch until Ctrl-C or SIGTERM, which then is a normal end (exit code 0). An error of the
 * first request is thrown. A later error is shown in a frame and the view goes on, because meshd may be restarting.
 */
export async function showView<T extends Answer>(
  context: Context,
  options: WatchOption,
  view: View<T>
): Promise<void> {
  // Without a signal: the client shows its progress line, and Ctrl-C ends the process.
  const first = await view.fetch()
  if (options.watch === undefined) return print(context, first, view.render)

  const intervalMs = (options.watch === true ? INTERVAL_SECONDS : options.watch) * 1000
  const stop = new AbortController()
  const end = (): void => stop.abort()
  process.on('SIGINT', end).on('SIGTERM', end)
  const screen = openScreen(context, intervalMs)
  try {
    for (let answer: T | Error = first; !stop.signal.aborted;) {
      screen.draw(answer instanceof Error ? errorText(answer) : textOf(context, answer, view.render))
      await sleep(intervalMs, undefined, { signal: stop.signal }).catch(() => undefined)
      if (!stop.signal.aborted) answer = await view.fetch(stop.signal).catch((error: Error) => error)
    }
  } finally {
    screen.close()
    process.removeListener('SIGINT', end).removeListener('SIGTERM', end)
  }
}

const INTERVAL_SECONDS = 2
// Escape sequences of ECMA-48 and DEC private modes: 25 is the cursor, 7 the automatic wrap.
const HIDE_CURSOR = '\u001b[?25l'
const SHOW_CURSOR = '\u001b[?25h'
const NO_WRAP = '\u001b[?7l'
const WRAP = '\u001b[?7h'
const HOME = '\u001b[H'
const CLEAR_SCREEN = '\u001b[2J'
const CLEAR_LINE = '\u001b[K'
const CLEAR_BELOW = '\u001b[J'

// The place where frames are shown. `close` gives the terminal back as it was.
interface Screen {
  draw(text: string): void
  close(): void
}

/**
 * Opens the terminal, in which each frame replaces the one before. When stdout is no terminal, or the format is json
 * or yaml, frames are printed one after another.
 */
function openScreen(context: Context, intervalMs: number): Screen {
  const { stdout } = process
  if (!stdout.isTTY || isData(context.format)) {
    let frames = 0
    const gap = context.format === 'json' ? '' : context.format === 'yaml' ? '---\n' : '\n'
    return { draw: (text) => void stdout.write(`${frames++ === 0 ? '' : gap}${text}\n`), close: () => {} }
  }
  // The terminal cuts long lines, because automatic wrap is off. So a frame has as many rows as lines.
  stdout.write(HIDE_CURSOR + NO_WRAP + HOME + CLEAR_SCREEN)
  return {
    draw(text) {
      const title = `every ${intervalMs / 1000}s   ${new Date().toTimeString().slice(0, 8)}   Ctrl-C ends`
      const lines = [context.style.paint('dim', title), '', ...text.split('\n')]
      // The frame leaves the last row free: a line break there would scroll the title away.
      const rows = Math.max(3, stdout.rows || 24)
      const fitting =
        lines.length < rows
          ? lines
          : [...lines.slice(0, rows - 2), `… ${lines.length - rows + 2} more lines: see them without --watch`]
      // One write per frame, and each line is cleared behind its text and not before, so the screen does not flicker.
      stdout.write(HOME + fitting.map((line) => `${line}${CLEAR_LINE}\n`).join('') + CLEAR_BELOW)
    },
    close: () => void stdout.write(WRAP + SHOW_CURSOR)
  }
}

/** Returns one frame as text. Notes are included, because text on stderr would be drawn over. */
function textOf<T extends Answer>(context: Context, answer: T, render: (answer: T) => Rendered): string {
  if (isData(context.format)) return formatData(context.format, answer)
  const { body, note } = render(cleanDeep(answer))
  return [body, note].filter((part) => part !== undefined).join('\n')
}

function errorText(error: Error): string {
  return describeError(error)
}
