"""Families that are fitted by EM or in closed form."""
