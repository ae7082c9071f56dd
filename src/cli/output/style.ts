// Colours are used only when stdout is a terminal, NO_COLOR is not set and --no-color is not given.
import { styleText } from 'node:util'

export type Colour = 'green' | 'yellow' | 'red' | 'dim' | 'bold'

export interface Style {
  paint(colour: Colour, text: string): string
}

export const PLAIN: Style = { paint: (_, text) => text }
const COLOURED: Style = {
  paint: (colour, text) => styleText(colour, text, { validateStream: false })
}

/** https://no-color.org: any value of NO_COLOR but the empty one. */
export function styleFor(
  stream: { readonly isTTY?: boolean },
  options: { readonly color: boolean; readonly env: Readonly<Record<string, string | undefined>> }
): Style {
  const wanted = options.color && !options.env['NO_COLOR'] && options.env['TERM'] !== 'dumb'
  return wanted && stream.isTTY === true ? COLOURED : PLAIN
}
