// Turns the refusal of a handshake, and the silence of all members, into an error for the operator who ran `meshctl join`.
// A refusal has the remedy of its code (core/trust/door/codes.ts).
import { codeOfKind } from '../../core/model/coded-error.ts'
import { REMEDIES, type HandshakeCode } from '../../core/trust/door/codes.ts'
import type { Control, HandshakeOutcome } from '../control/control.ts'
import { AppError } from '../observe/errors.ts'

/**
 * Returns the error. Its code is MESH_ and the code of the handshake, as in MESH_NAME_TAKEN. The message says which
 * side refused. `fixes`: by code, in the place of the remedy of the door, which is for a newcomer with a token.
 */
export function refusal(
  outcome: Extract<HandshakeOutcome, { kind: 'refused' }>,
  fixes: Readonly<Partial<Record<HandshakeCode, string>>> = {}
): AppError {
  const who = outcome.byPeer ? 'the member refused this agent' : 'this agent refused the member'
  const remedy = REMEDIES[outcome.code as HandshakeCode] ?? REMEDIES.unspecified
  // The text of a refusal ends with its remedy, which is the fix here.
  const end = `; ${remedy}`
  const detail = outcome.detail.endsWith(end) ? outcome.detail.slice(0, -end.length) : outcome.detail
  return new AppError(
    codeOfKind('MESH', outcome.code),
    `${who}: ${detail}`,
    fixes[outcome.code as HandshakeCode] ?? remedy
  )
}

/**
 * Returns the error UNREACHABLE. It names each address that was dialled and its latest error, so that the operator
 * sees which path is blocked.
 */
export function unreachable(
  control: { readonly transport: Pick<Control['transport'], 'dialState'> } | undefined,
  deadlineMs: number
): AppError {
  const tried = (control?.transport.dialState() ?? []).map(
    ({ addresses, lastError }) => `${addresses.join(', ')}${lastError === undefined ? '' : ` (${lastError})`}`
  )
  return new AppError(
    'UNREACHABLE',
    `none of the members that the token names answered within ${deadlineMs / 1000} s: ${tried.join('; ')}`,
    'check that their control port (TCP) is reachable from here, then join again with the same token, which this agent keeps; another token replaces it, and `meshctl leave` discards it (remove the setting token-file first)'
  )
}
