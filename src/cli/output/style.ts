// Colours of states and titles. They are used only when stdout is a terminal, TERM is not "dumb", NO_COLOR is not set
// and --no-color is not given. A colour never carries meaning alone: the word beside it says the same.
import { styleText } from 'node:util'

export type Colour = 'green' | 'yellow' | 'red' | 'dim' | 'bold'

/**
 * A way to paint text: with escape sequences, or not at all. Rendering code calls it and does not ask which one it has.
 */
export interface Style {
  paint(colour: Colour, text: string): string
}

/** The style without colours, which returns text unchanged. */
export const PLAIN: Style = { paint: (_, text) => text }
// validateStream: false, because styleFor has decided already and styleText would decide again, by rules of its own.
const COLOURED: Style = {
  paint: (colour, text) => styleText(colour, text, { validateStream: false })
}

/**
 * Returns the style for a stream. `color` is false with --no-color. As https://no-color.org demands, any value of
 * NO_COLOR turns colours off, except the empty one.
 */
export function styleFor(
  stream: { readonly isTTY?: boolean },
  options: { readonly color: boolean; readonly env: Readonly<Record<string, string | undefined>> }
): Style {
  const wanted = options.color && !options.env['NO_COLOR'] && options.env['TERM'] !== 'dumb'
  return wanted && stream.isTTY === true ? COLOURED : PLAIN
}
