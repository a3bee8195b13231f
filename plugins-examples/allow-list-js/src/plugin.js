// Admits the users of its settings: `user.NAME` holds a user's password, and `device.NAME` the
// device name that it gets, which is its own name otherwise.

import { Refusal, Verdict, settings, timingSafeEqual } from "portreeve-guest";

/** @type {import("portreeve-guest").Verify} */
export function verify(request) {
  const refused = Refusal.badUserNameOrPassword("unknown user or wrong password");
  const { userName, password } = request;
  if (userName === null || password === null) return refused;
  const expected = settings.get(`user.${userName}`);
  if (!expected || !timingSafeEqual(expected, password)) return refused;
  return Verdict.admit(settings.get(`device.${userName}`) ?? userName);
}
