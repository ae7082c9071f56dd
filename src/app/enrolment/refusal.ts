// Turns the refusal of a handshake into an error for the operator who ran `meshctl join`, with the remedy of its code
// (core/trust/door/codes.ts).
import { codeOfKind } from '../../core/model/coded-error.ts'
import { REMEDIES, type HandshakeCode } from '../../core/trust/door/codes.ts'
import type { HandshakeOutcome } from '../control/control.ts'
import { AppError } from '../observe/errors.ts'

/**
 * Returns the error. Its code is MESH_ and the code of the handshake, as in MESH_NAME_TAKEN. The message says which
 * side refused.
 */
export function refusal(outcome: Extract<HandshakeOutcome, { kind: 'refused' }>): AppError {
  const who = outcome.byPeer ? 'the member refused this agent' : 'this agent refused the member'
  const remedy = REMEDIES[outcome.code as HandshakeCode] ?? REMEDIES.unspecified
  // The text of a refusal ends with its remedy, which is the fix here.
  const end = `; ${remedy}`
  const detail = outcome.detail.endsWith(end) ? outcome.detail.slice(0, -end.length) : outcome.detail
  return new AppError(codeOfKind('MESH', outcome.code), `${who}: ${detail}`, remedy)
}
