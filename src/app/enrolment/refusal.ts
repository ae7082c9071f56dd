// Turns the refusal of a handshake into an error for the operator who ran `meshctl join`, with a fix for each code of
// core/trust/handshake.ts that has one.
import { codeOfKind } from '../../core/model/coded-error.ts'
import type { HandshakeOutcome } from '../control/control.ts'
import { AppError } from '../observe/errors.ts'

/**
 * Returns the error. Its code is MESH_ and the code of the handshake, as in MESH_NAME_TAKEN. The message says which
 * side refused.
 */
export function refusal(outcome: Extract<HandshakeOutcome, { kind: 'refused' }>): AppError {
  const fixes: Record<string, string> = {
    nameTaken: 'ask for an invite under another name',
    prefixOverlap: 'ask for an invite with other prefixes',
    expired: 'ask for a new token',
    clock: 'set the clock of the host that is wrong (`timedatectl`), then join again',
    version: 'upgrade the older of the two agents',
    mesh: 'the token is of another mesh than the member it names: ask for a new one',
    revoked: 'this cluster was removed from the mesh: ask for a new invite'
  }
  const who = outcome.byPeer ? 'the member refused this agent' : 'this agent refused the member'
  return new AppError(
    codeOfKind('MESH', outcome.code),
    `${who}: ${outcome.detail}`,
    fixes[outcome.code] ?? 'read the log of both agents'
  )
}
