
BprobabilitiesJ(J$8&‡;Ð—9:²ï8¶Ž:a®6 c¶:„0Ð6y~?„Ñ: